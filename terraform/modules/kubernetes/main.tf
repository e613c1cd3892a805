# The scheduled job as CronJobs, with a service account of its own and no right in the cluster.

locals {
  labels = {
    "app.kubernetes.io/name"       = "nightporter"
    "app.kubernetes.io/instance"   = var.name
    "app.kubernetes.io/managed-by" = "terraform"
  }

  jobs = merge(
    { rotate = { schedule = var.schedule, arguments = ["rotate", "--all", "-o", "json"] } },
    var.access_schedule == null ? {} : {
      access = { schedule = var.access_schedule, arguments = ["rotate", "--all", "--access", "-o", "json"] }
    },
  )

  environment = merge(
    { NIGHTPORTER_CONFIG = "/etc/nightporter/config.toml", NIGHTPORTER_CACHE = "off", HOME = "/tmp" },
    var.environment,
  )
}

resource "kubernetes_service_account_v1" "this" {
  metadata {
    name        = var.name
    namespace   = var.namespace
    labels      = local.labels
    annotations = var.service_account_annotations
  }
}

resource "kubernetes_config_map_v1" "this" {
  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  data = { "config.toml" = var.config }
}

resource "kubernetes_cron_job_v1" "this" {
  for_each = local.jobs

  metadata {
    name      = "${var.name}-${each.key}"
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    schedule                      = each.value.schedule
    timezone                      = var.timezone
    concurrency_policy            = "Forbid"
    starting_deadline_seconds     = 3600
    successful_jobs_history_limit = 2
    failed_jobs_history_limit     = 5

    job_template {
      metadata {
        labels = local.labels
      }

      spec {
        backoff_limit           = 3
        active_deadline_seconds = 900

        template {
          metadata {
            labels = local.labels
          }

          spec {
            service_account_name = kubernetes_service_account_v1.this.metadata[0].name
            restart_policy       = "OnFailure" # in the same pod, where a result that the store would not take waits

            security_context {
              run_as_non_root = true
              run_as_user     = 65532
              run_as_group    = 65532
              fs_group        = 65532

              seccomp_profile {
                type = "RuntimeDefault"
              }
            }

            container {
              name              = "nightporter"
              image             = var.image
              image_pull_policy = "IfNotPresent"
              command           = ["nightporter"]
              args              = each.value.arguments

              dynamic "env" {
                for_each = local.environment

                content {
                  name  = env.key
                  value = env.value
                }
              }

              resources {
                requests = { cpu = "50m", memory = "96Mi" }
                limits   = { cpu = "1", memory = "256Mi" }
              }

              security_context {
                allow_privilege_escalation = false
                privileged                 = false
                read_only_root_filesystem  = true

                capabilities {
                  drop = ["ALL"]
                }
              }

              volume_mount {
                name       = "config"
                mount_path = "/etc/nightporter"
                read_only  = true
              }

              # A result that the store would not take waits here, for as long as the pod lives.
              volume_mount {
                name       = "tmp"
                mount_path = "/tmp"
              }
            }

            volume {
              name = "config"

              config_map {
                name = kubernetes_config_map_v1.this.metadata[0].name
              }
            }

            volume {
              name = "tmp"

              empty_dir {
                medium     = "Memory"
                size_limit = "16Mi"
              }
            }
          }
        }
      }
    }
  }
}
