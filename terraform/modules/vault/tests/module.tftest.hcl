mock_provider "vault" {}

variables {
  profiles = { p = { credentials = "prod/p" } }
}

run "policies_of_a_reused_token" {
  command = plan

  assert {
    condition     = output.policies["refresh-only/p"] == "# p, role refresh-only\npath \"secret/data/prod/p/refresh-token\" { capabilities = [\"read\"] }"
    error_message = "Who refreshes a reused token needs to read the record, and nothing else."
  }
  assert {
    condition     = length(vault_policy.this) == 2
    error_message = "Without a published token there is no read-only role."
  }
}

run "policies_of_a_rotating_token" {
  command = plan

  variables {
    profiles = { p = { credentials = "prod/p", claims = true, publish_access_token = "prod/p/access" } }
  }

  assert {
    condition     = strcontains(output.policies["refresh-only/p"], "secret/metadata/prod/p/refresh-token")
    error_message = "Who refreshes a rotating token writes the record."
  }
  assert {
    condition     = vault_policy.this["read-only"].name == "nightporter-read-only"
    error_message = "A published token brings the role of its readers."
  }
}

run "log_ins" {
  command = plan

  variables {
    kubernetes = { namespace = "jobs", accounts = { full = ["nightporter"] } }
  }

  assert {
    condition     = vault_approle_auth_backend_role.this["full"].token_type == "batch"
    error_message = "Batch tokens leave no lease behind."
  }
  assert {
    condition     = vault_kubernetes_auth_backend_role.this["full"].bound_service_account_namespaces == toset(["jobs"])
    error_message = "The role is for one namespace."
  }
}

run "an_own_mount_and_no_approle" {
  command = plan

  variables {
    create_mount = false
    approle      = null
  }

  assert {
    condition     = length(vault_mount.this) == 0 && length(vault_auth_backend.approle) == 0
    error_message = "Nothing must be made that was not wanted."
  }
}

run "refuses_a_wrong_mount" {
  command = plan
  variables {
    mount = "/secret/"
  }
  expect_failures = [var.mount]
}

run "refuses_a_wrong_name" {
  command = plan
  variables {
    name = "N P"
  }
  expect_failures = [var.name]
}

run "refuses_no_profiles" {
  command = plan
  variables {
    profiles = {}
  }
  expect_failures = [var.profiles]
}

run "refuses_a_life_that_is_too_long" {
  command = plan
  variables {
    token_ttl = 100000
  }
  expect_failures = [var.token_ttl]
}

run "refuses_a_wrong_approle_path" {
  command = plan
  variables {
    approle = "a/b"
  }
  expect_failures = [var.approle]
}

run "refuses_networks_that_are_none" {
  command = plan
  variables {
    secret_id_bound_cidrs = ["everywhere"]
  }
  expect_failures = [var.secret_id_bound_cidrs]
}

run "refuses_unknown_roles" {
  command = plan
  variables {
    kubernetes = { namespace = "jobs", accounts = { admin = ["x"] } }
  }
  expect_failures = [var.kubernetes]
}
