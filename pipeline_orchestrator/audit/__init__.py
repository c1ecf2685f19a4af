"""The audit: what each station holds, compared by ranges of identities. Reads only; repairs are asked of the stages."""
