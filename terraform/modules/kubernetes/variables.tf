variable "namespace" {
  description = "Namespace of everything; it must be there."
  type        = string
  default     = "nightporter"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace)) && var.namespace != "default"
    error_message = "The namespace must be a DNS label, and not default."
  }
}

variable "name" {
  description = "Name of the jobs, the service account and the configuration."
  type        = string
  default     = "nightporter"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", var.name))
    error_message = "The name must be a DNS label of at most 42 characters."
  }
}

variable "image" {
  description = "An image with nightporter on its PATH, by digest (NAME@sha256:...)."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "The image must be named by its digest."
  }
}

variable "config" {
  description = "The configuration of nightporter, TOML text. It holds no secret."
  type        = string

  validation {
    condition     = can(regex("\\[profiles\\.", var.config))
    error_message = "The configuration must hold at least one [profiles.NAME] table."
  }
}

variable "schedule" {
  description = "When to rotate, in `timezone`. Stay out of 01:00 to 03:00, where clocks are changed."
  type        = string
  default     = "10 4,16 * * *"

  validation {
    condition     = can(regex("^[0-5]?[0-9] [0-9,*/-]+ [^ ]+ [^ ]+ [^ ]+$", var.schedule))
    error_message = "The schedule must be cron's MINUTE HOURS DAY MONTH WEEKDAY."
  }
}

variable "access_schedule" {
  description = "When to publish access tokens that end soon; null where no profile publishes any."
  type        = string
  default     = null

  validation {
    condition     = var.access_schedule == null || can(regex("^[0-9,*/-]+( [^ ]+){4}$", var.access_schedule))
    error_message = "The schedule must be cron's MINUTE HOURS DAY MONTH WEEKDAY."
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

variable "environment" {
  description = "More variables of the jobs, such as VAULT_ADDR. No secret belongs here."
  type        = map(string)
  default     = {}

  validation {
    condition     = !anytrue([for name in keys(var.environment) : can(regex("TOKEN|SECRET|PASSWORD", name))])
    error_message = "Secrets don't belong here: use the pod's identity (Kubernetes auth of Vault, IAM roles for service accounts)."
  }
}

variable "service_account_annotations" {
  description = "Annotations of the service account, such as eks.amazonaws.com/role-arn."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.service_account_annotations) : strcontains(name, "/")])
    error_message = "Annotations are named DOMAIN/NAME."
  }
}
