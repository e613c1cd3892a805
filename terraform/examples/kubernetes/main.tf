# The job in a cluster, with Vault reached through the service account.

terraform {
  required_version = ">= 1.6"

  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.30, < 4.0"
    }
  }
}

variable "image" {
  description = "An image with nightporter on its PATH, by digest."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "The image must be named by its digest."
  }
}

provider "kubernetes" {}

module "nightporter" {
  source = "../../modules/kubernetes"

  image           = var.image
  config          = file("${path.module}/nightporter.toml")
  access_schedule = "*/10 * * * *"
  environment     = { VAULT_ADDR = "https://vault.example.com" }
}

output "jobs" {
  description = "Names of the CronJobs."
  value       = module.nightporter.jobs
}
