output "service_account" {
  description = "Name of the service account, for the store's own rules of who may log in."
  value       = kubernetes_service_account_v1.this.metadata[0].name
}

output "jobs" {
  description = "Names of the CronJobs."
  value       = { for key, job in kubernetes_cron_job_v1.this : key => job.metadata[0].name }
}
