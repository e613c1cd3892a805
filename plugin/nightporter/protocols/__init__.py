"""Credential-helper protocols: parse an ask, render a reply. Pure, one module each."""
