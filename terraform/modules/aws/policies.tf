# What `nightporter policy PROFILE --role ROLE` prints, for every profile and role: tests hold the two to each other.

locals {
  read_actions = ["secretsmanager:GetSecretValue"]
  write_actions = [
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:CreateSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:UpdateSecretVersionStage",
  ]

  paths = {
    for name, profile in var.profiles : name => {
      credentials = profile.credentials
      client      = profile.client
      record      = coalesce(profile.refresh_token, "${profile.credentials}/refresh-token")
      published   = profile.publish_access_token
      claims      = profile.claims
    }
  }

  publishes = anytrue([for path in values(local.paths) : path.published != null])

  roles = toset(concat(["full", "refresh-only"], local.publishes ? ["read-only"] : []))

  # By role, then by profile: the paths that are read only, and those that are read and written.
  access = {
    "full" = {
      for name, path in local.paths : name => {
        reads  = compact([path.credentials, path.client])
        writes = compact([path.record, path.published])
      }
    }
    "refresh-only" = {
      for name, path in local.paths : name => {
        reads  = compact([path.client, path.claims ? null : path.record])
        writes = path.claims ? compact([path.record, path.published]) : []
      }
    }
    "read-only" = {
      for name, path in local.paths : name => { reads = [path.published], writes = [] } if path.published != null
    }
  }

  policies = {
    for grant in flatten([
      for role in local.roles : [
        for name, paths in local.access[role] : { role = role, profile = name, paths = paths }
      ]
    ]) :
    "${grant.role}/${grant.profile}" => {
      role = grant.role
      json = jsonencode({
        Version = "2012-10-17"
        Statement = concat(
          length(grant.paths.reads) == 0 ? [] : [{
            Sid      = "Read"
            Effect   = "Allow"
            Action   = local.read_actions
            Resource = [for path in grant.paths.reads : startswith(path, "arn:") ? path : "arn:*:secretsmanager:*:*:secret:${path}-??????"]
          }],
          length(grant.paths.writes) == 0 ? [] : [{
            Sid      = "ReadAndWrite"
            Effect   = "Allow"
            Action   = local.write_actions
            Resource = [for path in grant.paths.writes : startswith(path, "arn:") ? path : "arn:*:secretsmanager:*:*:secret:${path}-??????"]
          }],
          [{
            Sid      = "Key"
            Effect   = "Allow"
            Action   = concat(["kms:Decrypt"], length(grant.paths.writes) == 0 ? [] : ["kms:GenerateDataKey"])
            Resource = ["arn:*:kms:*:*:key/*"]
            Condition = {
              "StringLike"               = { "kms:ViaService" = ["secretsmanager.*.amazonaws.com", "secretsmanager.*.amazonaws.com.cn"] }
              "ForAnyValue:StringEquals" = { "kms:ResourceAliases" = "alias/${var.name}" }
            }
          }],
        )
      })
    }
  }

  trusted = {
    "full"         = var.trusted_principals.full
    "refresh-only" = var.trusted_principals.refresh_only
    "read-only"    = var.trusted_principals.read_only
  }
}

resource "aws_iam_role" "consumer" {
  for_each = local.roles

  name        = "${var.name}-${each.key}"
  description = "Asks nightporter for tokens with role ${each.key}."
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "lambda.amazonaws.com" }
      }],
      length(local.trusted[each.key]) == 0 ? [] : [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { AWS = local.trusted[each.key] }
      }],
    )
  })
  tags = var.tags
}

resource "aws_iam_role_policy" "consumer" {
  for_each = local.policies

  name   = replace(each.key, "/", "-")
  role   = aws_iam_role.consumer[each.value.role].id
  policy = each.value.json
}
