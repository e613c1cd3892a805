# A mount, one policy for each role over all profiles, and the logins that lead to them.

locals {
  paths = {
    for name, profile in var.profiles : name => {
      credentials = profile.credentials
      client      = profile.client
      record      = coalesce(profile.refresh_token, "${profile.credentials}/refresh-token")
      published   = profile.publish_access_token
      claims      = profile.claims
    }
  }

  publishes = anytrue([for path in values(local.paths) : path.published != null])

  roles = toset(concat(["full", "refresh-only"], local.publishes ? ["read-only"] : []))

  access = {
    "full" = {
      for name, path in local.paths : name => {
        reads  = compact([path.credentials, path.client])
        writes = compact([path.record, path.published])
      }
    }
    "refresh-only" = {
      for name, path in local.paths : name => {
        reads  = compact([path.client, path.claims ? null : path.record])
        writes = path.claims ? compact([path.record, path.published]) : []
      }
    }
    "read-only" = {
      for name, path in local.paths : name => { reads = [path.published], writes = [] } if path.published != null
    }
  }

  # What `nightporter policy PROFILE --role ROLE` prints: tests hold the two to each other.
  policies = {
    for grant in flatten([
      for role in local.roles : [
        for name, paths in local.access[role] : { role = role, profile = name, paths = paths }
      ]
    ]) :
    "${grant.role}/${grant.profile}" => join("\n", concat(
      ["# ${grant.profile}, role ${grant.role}"],
      [for path in grant.paths.reads : "path \"${var.mount}/data/${path}\" { capabilities = [\"read\"] }"],
      flatten([
        for path in grant.paths.writes : concat(
          [
            "path \"${var.mount}/data/${path}\" { capabilities = [\"create\", \"read\", \"update\"] }",
            "path \"${var.mount}/metadata/${path}\" {",
            "  capabilities = [\"create\", \"update\", \"patch\", \"read\"]",
            "  allowed_parameters = { \"delete_version_after\" = [], \"max_versions\" = [], \"custom_metadata\" = [] }",
            "}",
          ],
          grant.role == "full" ? ["path \"${var.mount}/destroy/${path}\" { capabilities = [\"update\"] }"] : [],
        )
      ]),
    ))
  }

  kubernetes_accounts = var.kubernetes == null ? {} : {
    for role, accounts in var.kubernetes.accounts : role => accounts if contains(local.roles, role)
  }
}

resource "vault_mount" "this" {
  count = var.create_mount ? 1 : 0

  path        = var.mount
  type        = "kv"
  options     = { version = "2" }
  description = "Credentials and sessions of nightporter"
}

resource "vault_policy" "this" {
  for_each = local.roles

  name   = "${var.name}-${each.key}"
  policy = join("\n", [for key, text in local.policies : text if startswith(key, "${each.key}/")])
}

resource "vault_auth_backend" "approle" {
  count = var.approle == null ? 0 : 1

  type        = "approle"
  path        = var.approle
  description = "Log-in of nightporter's consumers"
}

# The secret ids are made outside of Terraform (vault write -f auth/approle/role/NAME/secret-id): none is in its state.
resource "vault_approle_auth_backend_role" "this" {
  for_each = var.approle == null ? toset([]) : local.roles

  backend               = vault_auth_backend.approle[0].path
  role_name             = "${var.name}-${each.key}"
  token_policies        = [vault_policy.this[each.key].name]
  token_ttl             = var.token_ttl
  token_max_ttl         = var.token_ttl
  token_type            = "batch"
  secret_id_bound_cidrs = length(var.secret_id_bound_cidrs) == 0 ? null : var.secret_id_bound_cidrs
}

resource "vault_kubernetes_auth_backend_role" "this" {
  for_each = local.kubernetes_accounts

  backend                          = var.kubernetes.path
  role_name                        = "${var.name}-${each.key}"
  bound_service_account_names      = each.value
  bound_service_account_namespaces = [var.kubernetes.namespace]
  token_policies                   = [vault_policy.this[each.key].name]
  token_ttl                        = var.token_ttl
  token_max_ttl                    = var.token_ttl
  token_type                       = "batch"
}
