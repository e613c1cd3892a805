# The metrics are those of nightporter.aws_lambda (embedded metric format), under the dimension FunctionName. Each alert
# of plugin/observability has its alarm here, with the same limits: plugin/docs/runbooks.md has the table, which a test holds.

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
    # In each 13 hours there is a run, unless the schedule was missed.
    missed = {
      description = "No rotation has begun for 13 hours: look at the schedule and the dead-letter queue."
      namespace   = "nightporter"
      metric      = "Runs"
      statistic   = "Sum"
      comparison  = "LessThanThreshold"
      threshold   = 1
      period      = 46800
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
    used-elsewhere = {
      description = "Somebody else has used the session of a profile: treat it as a theft."
      namespace   = "nightporter"
      metric      = "SessionUsedElsewhere"
      statistic   = "Maximum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      period      = 900
      missing     = "notBreaching"
    }
    dead = {
      description = "A session is dead: a person must begin another."
      namespace   = "nightporter"
      metric      = "SessionDead"
      statistic   = "Maximum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      period      = 900
      missing     = "notBreaching"
    }
    # Two runs have come and gone without a new session.
    life-left-25h = {
      description = "A refresh token ends within 25 hours, and no run of 13 hours has renewed it."
      namespace   = "nightporter"
      metric      = "RefreshTokenLifeLeft"
      statistic   = "Maximum"
      comparison  = "LessThanThreshold"
      threshold   = 90000
      period      = 46800
      missing     = "notBreaching"
    }
    # CloudWatch takes no period over a day: twice 12.5 hours.
    failing = {
      description = "No rotation has succeeded for 25 hours."
      namespace   = "nightporter"
      metric      = "Successes"
      statistic   = "Sum"
      comparison  = "LessThanThreshold"
      threshold   = 1
      period      = 45000
      periods     = 2
      missing     = "breaching"
    }
    write-budget = {
      description = "The write budget of a profile in the store is used up."
      namespace   = "nightporter"
      metric      = "WriteBudgetUsedUp"
      statistic   = "Sum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      period      = 3600
      missing     = "notBreaching"
    }
    clock-skew = {
      description = "The clocks of the function and of an issuer differ."
      namespace   = "nightporter"
      metric      = "ClockSkew"
      statistic   = "Maximum"
      comparison  = "GreaterThanThreshold"
      threshold   = 30
      period      = 900
      missing     = "notBreaching"
    }
    spill-waiting = {
      description = "A result waits on the disk of a function: the store has not accepted it."
      namespace   = "nightporter"
      metric      = "SpillWaiting"
      statistic   = "Maximum"
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
  evaluation_periods  = try(each.value.periods, 1)
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
  tags                = var.tags
}
