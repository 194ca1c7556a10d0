use std::{collections::BTreeSet, fmt};

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

/// What a token may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Read.
    Viewer,
    /// Read and give commands.
    Operator,
    /// Everything, also what sets a safeguard aside: letting a model serve against the gate.
    Admin,
}

/// A bearer token (RFC 6750).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Who it stands for in the ledger.
    pub name: String,
    /// What the client sends: at least 16 characters, none of them blank.
    pub secret: String,
    /// What it may do.
    pub role: Role,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("secret", &"…")
            .field("role", &self.role)
            .finish()
    }
}

/// Short enough to type, long enough (96 bits in base 64) that it can't be tried out over HTTP.
const SECRET_CHARS_AT_LEAST: usize = 16;

/// Who a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Principal {
    pub(super) name: String,
    pub(super) role: Role,
}

/// The tokens as they are checked: hashes only, so that no secret stays in memory and the comparison takes the same
/// time whatever was sent (`blake3::Hash` compares in constant time, RFC 6750 §5.2 asks for no less).
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens(Vec<(blake3::Hash, Principal)>);

impl Tokens {
    pub(super) fn new(tokens: &[Token]) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        let mut secrets = BTreeSet::new();
        for (place, token) in tokens.iter().enumerate() {
            let name = &token.name;
            if name.trim().is_empty() {
                return Err(format!("tokens[{place}].name is empty: give it the name the ledger shall show"));
            }
            if !names.insert(name) {
                return Err(format!(
                    "tokens[{place}].name `{name}` is used twice: name each token differently"
                ));
            }
            let long_enough = token.secret.chars().count() >= SECRET_CHARS_AT_LEAST;
            // `!`–`~`: what can stand in a header after `Bearer `.
            if !long_enough || !token.secret.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(format!(
                    "the secret of tokens[{place}] (`{name}`) must be at least {SECRET_CHARS_AT_LEAST} printable ASCII \
                     characters without blanks: make one with `openssl rand -base64 24`"
                ));
            }
            if !secrets.insert(&token.secret) {
                return Err(format!(
                    "tokens[{place}] (`{name}`) has the secret of another token: give each its own"
                ));
            }
        }
        let hashed =
            |t: &Token| (blake3::hash(t.secret.as_bytes()), Principal { name: t.name.clone(), role: t.role });
        Ok(Self(tokens.iter().map(hashed).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token the request bears. Without tokens everybody who reaches loopback is `local`.
    pub(super) fn principal(&self, headers: &HeaderMap) -> Option<Principal> {
        if self.is_empty() {
            return Some(Principal { name: "local".into(), role: Role::Admin });
        }
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, secret) = value.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let given = blake3::hash(secret.trim_ascii());
        // Every token is compared, so that the time does not tell which one came near.
        self.0.iter().fold(
            None,
            |found, (hash, principal)| {
                if *hash == given { Some(principal.clone()) } else { found }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, secret: &str) -> Token {
        Token { name: name.into(), secret: secret.into(), role: Role::Viewer }
    }

    #[test]
    fn weak_or_ambiguous_tokens_are_refused() {
        let fine = token("ci", "0123456789abcdef");
        assert!(Tokens::new(std::slice::from_ref(&fine)).is_ok());
        for bad in [
            token("", "0123456789abcdeg"),
            token("ci", "0123456789abcdeg"),
            token("x", "short"),
            token("x", "0123456789abcdef"),
            token("x", "0123456789 abcdef"),
        ] {
            let refused = Tokens::new(&[fine.clone(), bad]).unwrap_err();
            assert!(refused.contains("tokens[1]"), "{refused}");
        }
    }

    #[test]
    fn only_the_whole_secret_counts() {
        let tokens = Tokens::new(&[token("ci", "0123456789abcdef")]).unwrap();
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            tokens.principal(&headers).map(|p| p.name)
        };
        assert_eq!(ask("Bearer 0123456789abcdef").as_deref(), Some("ci"));
        assert_eq!(ask("bearer 0123456789abcdef").as_deref(), Some("ci"));
        for wrong in ["Bearer 0123456789abcde", "Bearer 0123456789abcdeff", "Basic 0123456789abcdef", "B", ""]
        {
            assert_eq!(ask(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", token("ci", "0123456789abcdef")).contains("0123"));
    }
}
