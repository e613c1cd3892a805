# The metrics are those of nightporter.aws_lambda (embedded metric format), under the dimension FunctionName.

locals {
  alarms = {
    failed = {
      description = "A rotation failed: look for the event `rotated` in ${local.log_name}."
      namespace   = "nightporter"
      metric      = "Failures"
      statistic   = "Sum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      period      = 900
      missing     = "notBreaching"
    }
    crashed = {
      description = "The function itself failed or ran out of time: look at ${local.log_name} and the dead-letter queue."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      statistic   = "Sum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      period      = 900
      missing     = "notBreaching"
    }
    # Missing data are alarming too: in each half day there is a run, unless the schedule was missed.
    life-left = {
      description = "A refresh token ends in less than 6 hours, or no rotation has run for half a day."
      namespace   = "nightporter"
      metric      = "RefreshTokenLifeLeft"
      statistic   = "Minimum"
      comparison  = "LessThanThreshold"
      threshold   = 21600
      period      = 43200
      missing     = "breaching"
    }
    refused = {
      description = "A vendor refused a sign-in: correct the secret, which is then tried at once."
      namespace   = "nightporter"
      metric      = "RefusedSignIns"
      statistic   = "Sum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      period      = 900
      missing     = "notBreaching"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = { FunctionName = var.name }
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = each.value.period
  evaluation_periods  = 1
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
  tags                = var.tags
}
