# One Pitchpoint account: rotated twice a day, its access token published for readers.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.50, < 7.0"
    }
  }
}

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must be a name such as us-east-1."
  }
}

variable "alarm_actions" {
  description = "ARNs that alarms are sent to (SNS topics)."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_actions : startswith(arn, "arn:")])
    error_message = "Every alarm action must be an ARN."
  }
}

provider "aws" {
  region = var.region
}

module "nightporter" {
  source = "../../modules/aws"

  config        = file("${path.module}/nightporter.toml")
  layer_zip     = "${path.module}/../../../dist/nightporter-layer.zip"
  function_zip  = "${path.module}/../../../dist/nightporter-function.zip"
  alarm_actions = var.alarm_actions

  profiles = {
    pitchpoint = {
      credentials          = "prod/pitchpoint"
      publish_access_token = "prod/pitchpoint/access"
    }
  }
}

output "layer_arn" {
  description = "Add this layer to functions that ask for tokens."
  value       = module.nightporter.layer_arn
}

output "role_arns" {
  description = "Roles for consumers."
  value       = module.nightporter.role_arns
}
