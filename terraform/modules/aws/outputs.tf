output "function_name" {
  description = "Name of the function; its handler is rotate_handler."
  value       = aws_lambda_function.rotation.function_name
}

output "layer_arn" {
  description = "ARN of the layer's version, for functions that ask for tokens."
  value       = aws_lambda_layer_version.this.arn
}

output "role_arns" {
  description = "ARN of each consumer role: full, refresh-only, and read-only where a profile publishes its access token."
  value       = { for role in local.roles : role => aws_iam_role.consumer[role].arn }
}

output "policies" {
  description = "The policy of each role and profile (ROLE/PROFILE), JSON text: what `nightporter policy` prints."
  value       = { for key, policy in local.policies : key => policy.json }
}

output "kms_key_alias" {
  description = "Alias of the key; name it as kms_key_id in the configuration's stores."
  value       = aws_kms_alias.this.name
}

output "dead_letter_queue_url" {
  description = "Queue of the runs that failed for good."
  value       = aws_sqs_queue.dead.url
}
