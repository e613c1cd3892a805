variable "name" {
  description = "Name of the function, and the beginning of every other name."
  type        = string
  default     = "nightporter"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.name))
    error_message = "The name must be 2 to 41 lower-case letters, digits and dashes, a letter first."
  }
}

variable "config" {
  description = "The configuration of nightporter, TOML text. Its stores of type aws-secrets-manager should name kms_key_id = \"alias/NAME\". It holds no secret."
  type        = string

  validation {
    condition     = can(regex("\\[profiles\\.", var.config))
    error_message = "The configuration must hold at least one [profiles.NAME] table."
  }

  validation {
    condition     = length(var.config) <= 3500
    error_message = "The configuration must fit into a variable of the function (3500 characters): use several modules."
  }
}

variable "profiles" {
  description = "The profiles of `config` that this account serves, by name, with the paths of their secrets. `claims`: the vendor's refresh tokens rotate, or the access token is shared, so that even a refresh writes a claim."
  type = map(object({
    credentials          = string
    client               = optional(string)
    refresh_token        = optional(string)
    publish_access_token = optional(string)
    claims               = optional(bool, false)
  }))

  validation {
    condition     = length(var.profiles) > 0 && length(var.profiles) <= 10
    error_message = "1 to 10 profiles: a role's policies have a limit of 10240 characters. Use several modules for more."
  }

  validation {
    condition     = alltrue([for profile in values(var.profiles) : !startswith(profile.credentials, "arn:") || profile.refresh_token != null])
    error_message = "Where credentials is an ARN, refresh_token must be named too."
  }

  validation {
    condition     = alltrue(flatten([for profile in values(var.profiles) : [for path in compact([profile.credentials, profile.client, profile.refresh_token, profile.publish_access_token]) : !can(regex("[*?\"\\\\{}]|(^|/)[+](/|$)|[[:cntrl:]]", path))]]))
    error_message = "Paths of secrets hold no * ? \" \\ { } and no part +: in a policy these are patterns, or end its text."
  }
}

variable "layer_zip" {
  description = "Path of nightporter-layer.zip, as scripts/build-layer writes it."
  type        = string

  validation {
    condition     = fileexists(var.layer_zip)
    error_message = "There is no such file. Build it first: ./scripts/build-layer, in the clone of nightporter."
  }
}

variable "function_zip" {
  description = "Path of nightporter-function.zip, as scripts/build-layer writes it."
  type        = string

  validation {
    condition     = fileexists(var.function_zip)
    error_message = "There is no such file. Build it first: ./scripts/build-layer, in the clone of nightporter."
  }
}

variable "runtime" {
  description = "Python of the function."
  type        = string
  default     = "python3.13"

  validation {
    condition     = contains(["python3.11", "python3.12", "python3.13", "python3.14"], var.runtime)
    error_message = "The runtime must be one of python3.11 to python3.14."
  }
}

variable "architecture" {
  description = "Processor of the function: arm64 or x86_64. The layer is the same for both."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture must be arm64 or x86_64."
  }
}

variable "timeout" {
  description = "Seconds that one run may take. Nothing is begun with less than 12 s left."
  type        = number
  default     = 300

  validation {
    condition     = var.timeout >= 30 && var.timeout <= 900
    error_message = "The timeout must be 30 to 900 seconds."
  }
}

variable "reserved_concurrency" {
  description = "How many runs may be under way at once; -1 sets no limit. Claims make overlapping runs safe."
  type        = number
  default     = -1

  validation {
    condition     = var.reserved_concurrency == -1 || var.reserved_concurrency >= 1
    error_message = "The concurrency must be -1 or at least 1."
  }
}

variable "schedule" {
  description = "When to rotate, as EventBridge Scheduler has it, in `timezone`. Stay out of 01:00 to 03:00, where clocks are changed."
  type        = string
  default     = "cron(10 4,16 * * ? *)"

  validation {
    condition     = can(regex("^cron\\([0-5]?[0-9] ([0-9]|[0-9,]+|\\*|\\*/[0-9]+) [^ ]+ [^ ]+ [^ ]+ [^ ]+\\)$", var.schedule))
    error_message = "The schedule must be cron(MINUTE HOURS DAY MONTH WEEKDAY YEAR)."
  }
}

variable "access_schedule" {
  description = "When to publish access tokens that end soon, as EventBridge Scheduler has it. Made only where a profile publishes its access token."
  type        = string
  default     = "rate(10 minutes)"

  validation {
    condition     = can(regex("^(rate\\([1-9][0-9]* (minute|minutes|hour|hours)\\)|cron\\(.+\\))$", var.access_schedule))
    error_message = "The schedule must be rate(N minutes) or cron(...)."
  }
}

variable "timezone" {
  description = "Time zone of the schedules. Pitchpoint's day ends at midnight in New York."
  type        = string
  default     = "America/New_York"

  validation {
    condition     = can(regex("^[A-Za-z_]+(/[A-Za-z_+-]+)*$", var.timezone))
    error_message = "The time zone must be a name such as America/New_York."
  }
}

variable "trusted_principals" {
  description = "ARNs of who may take each consumer role, besides functions of this account."
  type = object({
    full         = optional(list(string), [])
    refresh_only = optional(list(string), [])
    read_only    = optional(list(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for arn in flatten(values(var.trusted_principals)) : startswith(arn, "arn:")])
    error_message = "Every trusted principal must be an ARN."
  }
}

variable "log_retention_days" {
  description = "How long the function's log is kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "The retention must be one that CloudWatch Logs knows, 30 days or more."
  }
}

variable "alarm_actions" {
  description = "ARNs that alarms are sent to (SNS topics). Empty: alarms change their state and tell nobody."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_actions : startswith(arn, "arn:")])
    error_message = "Every alarm action must be an ARN."
  }
}

variable "vpc" {
  description = "Subnets and security groups of the function, where it has to live in a VPC. The vendor and AWS must be reachable from there."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.vpc == null || try(length(var.vpc.subnet_ids) > 0 && length(var.vpc.security_group_ids) > 0, false)
    error_message = "A VPC needs at least one subnet and one security group."
  }
}

variable "tags" {
  description = "Tags of everything that takes them."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(key, "aws:")])
    error_message = "Keys that begin with aws: are reserved."
  }
}
