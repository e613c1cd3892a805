# Vault for one Pitchpoint account: a mount, policies, AppRole, and the login of a CronJob.

terraform {
  required_version = ">= 1.6"

  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 4.0, < 6.0"
    }
  }
}

provider "vault" {}

module "nightporter" {
  source = "../../modules/vault"

  profiles = {
    pitchpoint = {
      credentials          = "prod/pitchpoint"
      publish_access_token = "prod/pitchpoint/access"
    }
  }

  kubernetes = {
    namespace = "nightporter"
    accounts  = { full = ["nightporter"] }
  }
}

output "role_ids" {
  description = "The role_id of each AppRole."
  value       = module.nightporter.role_ids
}
