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
    life-left = {
      description = "A refresh token ends in less than 6 hours."
      namespace   = "nightporter"
      metric      = "RefreshTokenLifeLeft"
      statistic   = "Minimum"
      comparison  = "LessThanThreshold"
      threshold   = 21600
      period      = 3600
      missing     = "notBreaching" # not every vendor states an end
    }
    # In each half day there is a run, unless the schedule was missed.
    missed = {
      description = "No rotation has begun for half a day: look at the schedule and the dead-letter queue."
      namespace   = "nightporter"
      metric      = "Runs"
      statistic   = "Sum"
      comparison  = "LessThanThreshold"
      threshold   = 1
      period      = 43200
      missing     = "breaching"
    }
    undelivered = {
      description = "Runs lie in the dead-letter queue."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      statistic   = "Maximum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      period      = 900
      missing     = "notBreaching"
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

locals {
  dimensions = merge(
    { for key in keys(local.alarms) : key => { FunctionName = var.name } },
    {
      missed      = { FunctionName = var.name, Kind = "rotate" }
      undelivered = { QueueName = aws_sqs_queue.dead.name }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = local.dimensions[each.key]
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
