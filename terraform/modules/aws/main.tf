# The scheduled job: a layer, a function that calls rotate_handler, its schedules and its alarms.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  region       = data.aws_region.current.region
  root_arn     = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"
  log_name     = "/aws/lambda/${var.name}"
  log_arn      = "arn:${data.aws_partition.current.partition}:logs:${local.region}:${data.aws_caller_identity.current.account_id}:log-group:${local.log_name}"
  function_arn = "arn:${data.aws_partition.current.partition}:lambda:${local.region}:${data.aws_caller_identity.current.account_id}:function:${var.name}"

  schedules = merge(
    { rotate = { expression = var.schedule, input = {} } },
    local.publishes ? { access = { expression = var.access_schedule, input = { access = true } } } : {},
  )
}

resource "aws_kms_key" "this" {
  description             = "Secrets, log, queue and settings of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Account"
        Effect    = "Allow"
        Action    = "kms:*"
        Resource  = "*"
        Principal = { AWS = local.root_arn }
      },
      {
        Sid       = "Log"
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Principal = { Service = "logs.${local.region}.${data.aws_partition.current.dns_suffix}" }
        Condition = { ArnEquals = { "kms:EncryptionContext:aws:logs:arn" = local.log_arn } }
      },
    ]
  })
  tags = var.tags
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_cloudwatch_log_group" "this" {
  name              = local.log_name
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.this.arn
  tags              = var.tags
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  kms_master_key_id         = aws_kms_key.this.arn
  message_retention_seconds = 1209600
  tags                      = var.tags
}

resource "aws_iam_role" "rotation" {
  name        = "${var.name}-rotation"
  description = "The scheduled job of nightporter."
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy" "rotation" {
  for_each = { for key, policy in local.policies : key => policy if policy.role == "full" }

  name   = replace(each.key, "/", "-")
  role   = aws_iam_role.rotation.id
  policy = each.value.json
}

resource "aws_iam_role_policy" "run" {
  name = "run"
  role = aws_iam_role.rotation.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = "${local.log_arn}:*" },
        { Effect = "Allow", Action = "sqs:SendMessage", Resource = aws_sqs_queue.dead.arn },
        { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = aws_kms_key.this.arn },
        { Effect = "Allow", Action = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], Resource = "*" },
      ],
      # The network interfaces of a function in a VPC; AWS knows no narrower resource for them.
      var.vpc == null ? [] : [{
        Effect   = "Allow"
        Action   = ["ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface"]
        Resource = "*"
      }],
    )
  })
}

resource "aws_lambda_layer_version" "this" {
  layer_name               = var.name
  description              = "nightporter and what it needs, without boto3"
  filename                 = var.layer_zip
  source_code_hash         = filebase64sha256(var.layer_zip)
  compatible_runtimes      = ["python3.11", "python3.12", "python3.13", "python3.14"]
  compatible_architectures = ["x86_64", "arm64"]
  license_info             = "Apache-2.0"
}

resource "aws_lambda_function" "rotation" {
  #checkov:skip=CKV_AWS_272:the zips are built reproducibly and compared by hash; signing is the account's own choice
  #checkov:skip=CKV_AWS_117:a VPC is an option (variable vpc): the vendors are on the internet
  #checkov:skip=CKV_AWS_115:a limit is an option (variable reserved_concurrency): new accounts have none to give
  function_name                  = var.name
  description                    = "Signs in, refreshes and publishes what is due"
  role                           = aws_iam_role.rotation.arn
  runtime                        = var.runtime
  architectures                  = [var.architecture]
  handler                        = "function.rotate_handler"
  filename                       = var.function_zip
  source_code_hash               = filebase64sha256(var.function_zip)
  layers                         = [aws_lambda_layer_version.this.arn]
  timeout                        = var.timeout
  memory_size                    = 256
  reserved_concurrent_executions = var.reserved_concurrency
  kms_key_arn                    = aws_kms_key.this.arn
  tags                           = var.tags

  environment {
    variables = { NIGHTPORTER_CONFIG_TOML = var.config }
  }

  dead_letter_config {
    target_arn = aws_sqs_queue.dead.arn
  }

  tracing_config {
    mode = "Active"
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.run]
}

resource "aws_iam_role" "schedule" {
  name        = "${var.name}-schedule"
  description = "Starts the scheduled job of nightporter."
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy" "schedule" {
  name = "start"
  role = aws_iam_role.schedule.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "lambda:InvokeFunction", Resource = local.function_arn },
      { Effect = "Allow", Action = "sqs:SendMessage", Resource = aws_sqs_queue.dead.arn },
      { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = aws_kms_key.this.arn },
    ]
  })
}

resource "aws_scheduler_schedule" "this" {
  for_each = local.schedules

  name                         = "${var.name}-${each.key}"
  description                  = "nightporter ${each.key}"
  schedule_expression          = each.value.expression
  schedule_expression_timezone = var.timezone
  kms_key_arn                  = aws_kms_key.this.arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.rotation.arn
    role_arn = aws_iam_role.schedule.arn
    input    = jsonencode(each.value.input)

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 5
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead.arn
    }
  }
}
