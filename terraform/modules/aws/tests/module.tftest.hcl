mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
}

variables {
  config       = "[profiles.p]\nissuer = \"pitchpoint\"\n"
  layer_zip    = "tests/module.tftest.hcl" # any file: it is only hashed
  function_zip = "tests/module.tftest.hcl"
  profiles     = { p = { credentials = "prod/p" } }
}

run "two_runs_a_day_in_new_york" {
  command = plan

  assert {
    condition     = aws_scheduler_schedule.this["rotate"].schedule_expression == "cron(10 4,16 * * ? *)"
    error_message = "The rotation must run at 04:10 and 16:10."
  }
  assert {
    condition     = aws_scheduler_schedule.this["rotate"].schedule_expression_timezone == "America/New_York"
    error_message = "The schedule must be in New York's time."
  }
  assert {
    condition     = length(aws_scheduler_schedule.this) == 1 && length(aws_iam_role.consumer) == 2
    error_message = "Without a published token there is neither a second schedule nor a read-only role."
  }
}

run "a_published_token_brings_the_second_schedule" {
  command = plan

  variables {
    profiles = { p = { credentials = "prod/p", publish_access_token = "prod/p/access" } }
  }

  assert {
    condition     = jsondecode(aws_scheduler_schedule.this["access"].target[0].input) == { access = true }
    error_message = "The second schedule must ask for access tokens."
  }
  assert {
    condition     = jsondecode(output.policies["read-only/p"]).Statement[0].Resource == ["arn:*:secretsmanager:*:*:secret:prod/p/access-??????"]
    error_message = "Readers may read the published token and nothing else."
  }
  assert {
    condition     = !strcontains(output.policies["refresh-only/p"], "secret:prod/p-??????")
    error_message = "refresh-only must not read the credentials."
  }
}

run "alarms" {
  command = plan

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["life-left"].threshold == 21600 && aws_cloudwatch_metric_alarm.this["missed"].treat_missing_data == "breaching"
    error_message = "A token that ends within 6 hours, and a missed rotation, must be alarming."
  }
  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.this) == ["clock-skew", "crashed", "dead", "failed", "failing", "life-left", "life-left-25h", "missed", "refused", "spill-waiting", "undelivered", "used-elsewhere", "write-budget"]
    error_message = "There are thirteen alarms."
  }
}

run "in_a_vpc" {
  command = plan

  variables {
    vpc = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
  }

  assert {
    condition     = length(aws_lambda_function.rotation.vpc_config) == 1
    error_message = "The function must be in the VPC."
  }
}

run "refuses_a_wrong_name" {
  command = plan
  variables {
    name = "Night Porter"
  }
  expect_failures = [var.name]
}

run "refuses_a_configuration_without_profiles" {
  command = plan
  variables {
    config = "[stores.x]"
  }
  expect_failures = [var.config]
}

run "refuses_no_profiles" {
  command = plan
  variables {
    profiles = {}
  }
  expect_failures = [var.profiles]
}

run "refuses_an_arn_without_a_record" {
  command = plan
  variables {
    profiles = { p = { credentials = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:p-abcdef" } }
  }
  expect_failures = [var.profiles]
}

run "refuses_an_unknown_runtime" {
  command = plan
  variables {
    runtime = "python3.9"
  }
  expect_failures = [var.runtime]
}

run "refuses_an_unknown_architecture" {
  command = plan
  variables {
    architecture = "mips"
  }
  expect_failures = [var.architecture]
}

run "refuses_a_timeout_that_is_too_short" {
  command = plan
  variables {
    timeout = 10
  }
  expect_failures = [var.timeout]
}

run "refuses_no_concurrency" {
  command = plan
  variables {
    reserved_concurrency = 0
  }
  expect_failures = [var.reserved_concurrency]
}

run "refuses_a_wrong_schedule" {
  command = plan
  variables {
    schedule = "10 4,16 * * *"
  }
  expect_failures = [var.schedule]
}

run "refuses_a_wrong_access_schedule" {
  command = plan
  variables {
    access_schedule = "often"
  }
  expect_failures = [var.access_schedule]
}

run "refuses_a_wrong_zone" {
  command = plan
  variables {
    timezone = "Eastern Time"
  }
  expect_failures = [var.timezone]
}

run "refuses_principals_that_are_none" {
  command = plan
  variables {
    trusted_principals = { full = ["me"] }
  }
  expect_failures = [var.trusted_principals]
}

run "refuses_an_odd_retention" {
  command = plan
  variables {
    log_retention_days = 7
  }
  expect_failures = [var.log_retention_days]
}

run "refuses_alarm_actions_that_are_none" {
  command = plan
  variables {
    alarm_actions = ["me@example.com"]
  }
  expect_failures = [var.alarm_actions]
}

run "refuses_an_empty_vpc" {
  command = plan
  variables {
    vpc = { subnet_ids = [], security_group_ids = [] }
  }
  expect_failures = [var.vpc]
}

run "refuses_reserved_tags" {
  command = plan
  variables {
    tags = { "aws:x" = "y" }
  }
  expect_failures = [var.tags]
}

run "a_layer_that_is_not_built" {
  command = plan

  variables {
    layer_zip = "dist/absent.zip"
  }

  expect_failures = [var.layer_zip]
}

run "a_function_that_is_not_built" {
  command = plan

  variables {
    function_zip = "dist/absent.zip"
  }

  expect_failures = [var.function_zip]
}
