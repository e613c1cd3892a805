variable "mount" {
  description = "Path of the KV version 2 mount."
  type        = string
  default     = "secret"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.mount))
    error_message = "The mount must be a path without a slash at its ends."
  }
}

variable "create_mount" {
  description = "Whether to make the mount; false where it is there already."
  type        = bool
  default     = true
}

variable "name" {
  description = "Beginning of the names of policies and roles."
  type        = string
  default     = "nightporter"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.name))
    error_message = "The name must be 2 to 41 lower-case letters, digits and dashes, a letter first."
  }
}

variable "profiles" {
  description = "The profiles, by name, with the paths of their secrets below the mount. `claims`: the vendor's refresh tokens rotate, or the access token is shared, so that even a refresh writes a claim."
  type = map(object({
    credentials          = string
    client               = optional(string)
    refresh_token        = optional(string)
    publish_access_token = optional(string)
    claims               = optional(bool, false)
  }))

  validation {
    condition     = length(var.profiles) > 0
    error_message = "At least one profile is needed."
  }

  validation {
    condition     = alltrue(flatten([for profile in values(var.profiles) : [for path in compact([profile.credentials, profile.client, profile.refresh_token, profile.publish_access_token]) : !can(regex("[*?\"\\\\{}]|(^|/)[+](/|$)|[[:cntrl:]]", path))]]))
    error_message = "Paths of secrets hold no * ? \" \\ { } and no part +: in a policy these are patterns, or end its text."
  }
}

variable "token_ttl" {
  description = "Seconds that a token of Vault lives after a login."
  type        = number
  default     = 1200

  validation {
    condition     = var.token_ttl >= 60 && var.token_ttl <= 86400
    error_message = "The life of a token must be 60 to 86400 seconds."
  }
}

variable "approle" {
  description = "Path of the AppRole auth method to make, or null for none."
  type        = string
  default     = "approle"

  validation {
    condition     = var.approle == null || can(regex("^[A-Za-z0-9_-]+$", var.approle))
    error_message = "The path must be letters, digits, dashes and underscores."
  }
}

variable "secret_id_bound_cidrs" {
  description = "Networks from which an AppRole may log in. Empty: from everywhere."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.secret_id_bound_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Every entry must be a network such as 10.0.0.0/8."
  }
}

variable "kubernetes" {
  description = "The Kubernetes auth method, already set up, and which service accounts may log in with each role."
  type = object({
    path      = optional(string, "kubernetes")
    namespace = string
    accounts  = map(list(string))
  })
  default = null

  validation {
    condition     = var.kubernetes == null || try(alltrue([for role in keys(var.kubernetes.accounts) : contains(["full", "refresh-only", "read-only"], role)]), false)
    error_message = "The roles are full, refresh-only and read-only."
  }
}
