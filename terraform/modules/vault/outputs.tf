output "mount" {
  description = "The mount to name in the store."
  value       = var.mount
}

output "policy_names" {
  description = "Name of each role's policy."
  value       = { for role in local.roles : role => vault_policy.this[role].name }
}

output "policies" {
  description = "The policy of each role and profile (ROLE/PROFILE), HCL text: what `nightporter policy` prints."
  value       = local.policies
}

output "role_ids" {
  description = "The role_id of each AppRole. It is a name, not a secret."
  value       = { for role, item in vault_approle_auth_backend_role.this : role => item.role_id }
}

output "kubernetes_roles" {
  description = "The Kubernetes roles to name in the store's `auth`."
  value       = { for role, item in vault_kubernetes_auth_backend_role.this : role => item.role_name }
}
