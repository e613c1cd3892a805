mock_provider "kubernetes" {}

variables {
  image  = "registry.example.com/nightporter@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  config = "[profiles.p]\nissuer = \"pitchpoint\"\n"
}

run "two_runs_a_day_in_new_york" {
  command = plan

  assert {
    condition     = kubernetes_cron_job_v1.this["rotate"].spec[0].schedule == "10 4,16 * * *"
    error_message = "The rotation must run at 04:10 and 16:10."
  }
  assert {
    condition     = kubernetes_cron_job_v1.this["rotate"].spec[0].timezone == "America/New_York"
    error_message = "The schedule must be in New York's time."
  }
  assert {
    condition     = keys(kubernetes_cron_job_v1.this) == ["rotate"]
    error_message = "Without an access schedule there is one job."
  }
}

run "a_second_job_for_access_tokens" {
  command = plan

  variables {
    access_schedule = "*/10 * * * *"
  }

  assert {
    condition     = contains(kubernetes_cron_job_v1.this["access"].spec[0].job_template[0].spec[0].template[0].spec[0].container[0].args, "--access")
    error_message = "The second job must publish access tokens."
  }
}

run "refuses_the_default_namespace" {
  command = plan
  variables {
    namespace = "default"
  }
  expect_failures = [var.namespace]
}

run "refuses_a_wrong_name" {
  command = plan
  variables {
    name = "N"
  }
  expect_failures = [var.name]
}

run "refuses_an_image_without_a_digest" {
  command = plan
  variables {
    image = "registry.example.com/nightporter:latest"
  }
  expect_failures = [var.image]
}

run "refuses_a_configuration_without_profiles" {
  command = plan
  variables {
    config = ""
  }
  expect_failures = [var.config]
}

run "refuses_a_wrong_schedule" {
  command = plan
  variables {
    schedule = "daily"
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

run "refuses_secrets_in_the_environment" {
  command = plan
  variables {
    environment = { VAULT_TOKEN = "x" }
  }
  expect_failures = [var.environment]
}

run "refuses_annotations_without_a_domain" {
  command = plan
  variables {
    service_account_annotations = { x = "y" }
  }
  expect_failures = [var.service_account_annotations]
}
