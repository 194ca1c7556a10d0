//! How a server is approached that is not a cell: what it wants to be shown, and who vouches for its certificate.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::header::HeaderValue;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::history::PrometheusUrl;

/// What a server wants to be shown, and who vouches for its certificate. The default: nothing, and whom this machine trusts.
///
/// Secrets are not shown by `Debug`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Access {
    authorization: Option<HeaderValue>,
    /// In PEM.
    ca: Option<Vec<u8>>,
}

/// Why a server can't be approached in a way.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is nothing to be shown.
    #[error("{what} is empty; put it where it is said to be")]
    Empty {
        /// Which secret.
        what: &'static str,
    },
    /// It can't stand in a header.
    #[error("{what} holds what a header can't hold, such as a line break; write it again, without")]
    NoHeader {
        /// Which secret.
        what: &'static str,
    },
    /// A name and a password are told apart by the first colon (RFC 7617 §2).
    #[error("the user's name holds a colon; name one without")]
    Colon,
    /// There is no certificate in it.
    #[error(
        "no certificate is in it{why}; give the authority's certificate in PEM, which begins with `-----BEGIN CERTIFICATE-----`"
    )]
    NoCertificate {
        /// What was wrong, after a colon; empty: nothing was found.
        why: String,
    },
    /// This machine trusts nobody.
    #[error(
        "this machine trusts no authority of certificates{why}; install `ca-certificates`, or name the authority's certificate"
    )]
    NobodyTrusted {
        /// What was wrong, after a colon.
        why: String,
    },
    /// Certificates are of names and addresses.
    #[error("`{host}` is no name that a certificate could be of")]
    NoName {
        /// As given.
        host: String,
    },
    /// What this program does cryptography with refuses.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

impl Access {
    /// Shows a token (`Authorization: Bearer …`, RFC 6750 §2.1).
    ///
    /// # Errors
    /// [`AccessError::Empty`] and [`AccessError::NoHeader`].
    pub fn with_token(self, token: &str) -> Result<Self, AccessError> {
        if token.is_empty() {
            return Err(AccessError::Empty { what: "the token" });
        }
        self.authorized(&format!("Bearer {token}"), "the token")
    }

    /// Shows a name and a password (`Authorization: Basic …`, RFC 7617).
    ///
    /// # Errors
    /// [`AccessError::Colon`] in the name, [`AccessError::Empty`] without a password.
    pub fn with_password(self, user: &str, password: &str) -> Result<Self, AccessError> {
        if user.contains(':') {
            return Err(AccessError::Colon);
        }
        if password.is_empty() {
            return Err(AccessError::Empty { what: "the password" });
        }
        let shown = BASE64_STANDARD.encode(format!("{user}:{password}"));
        self.authorized(&format!("Basic {shown}"), "the password")
    }

    /// Trusts this authority (a certificate or several, in PEM) instead of those that this machine trusts.
    ///
    /// # Errors
    /// [`AccessError::NoCertificate`].
    pub fn with_authority(self, pem: Vec<u8>) -> Result<Self, AccessError> {
        roots_of(&pem)?;
        Ok(Self { ca: Some(pem), ..self })
    }

    fn authorized(self, value: &str, what: &'static str) -> Result<Self, AccessError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| AccessError::NoHeader { what })?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// What makes connections with a server secure; `None` where it is not spoken to over TLS. Reads whom this machine trusts, so not for every connection.
    pub(crate) fn tls(&self, url: &PrometheusUrl) -> Result<Option<Tls>, AccessError> {
        if !url.is_secure() {
            return Ok(None);
        }
        let host = url.host();
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| AccessError::NoName { host: host.to_owned() })?;
        let roots = match &self.ca {
            Some(pem) => roots_of(pem)?,
            None => trusted_here()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Tls { connector: Arc::new(config).into(), name }))
    }
}

/// Makes connections with one server secure.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    pub(crate) name: ServerName<'static>,
}

fn roots_of(pem: &[u8]) -> Result<RootCertStore, AccessError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let wrong = |why: String| AccessError::NoCertificate { why: format!(": {why}") };
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() { Err(AccessError::NoCertificate { why: String::new() }) } else { Ok(roots) }
}

fn trusted_here() -> Result<RootCertStore, AccessError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Of many some are always odd, and one that is not understood vouches for nobody.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(AccessError::NobodyTrusted { why });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_to_the_server_alone() {
        // The example of RFC 7617 §2.
        let access = Access::default().with_password("Aladdin", "open sesame").unwrap();
        assert_eq!(access.authorization().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{access:?}").contains("QWxh"), "{access:?}");
        let token = Access::default().with_token("abc").unwrap();
        assert_eq!(token.authorization().unwrap(), "Bearer abc");
    }

    #[test]
    fn what_can_t_be_shown_or_trusted_is_refused_with_the_remedy() {
        let said = |result: Result<Access, AccessError>| result.unwrap_err().to_string();
        assert!(said(Access::default().with_token("a\nb")).contains("the token holds"));
        assert!(said(Access::default().with_password("a:b", "c")).contains("colon"));
        assert!(said(Access::default().with_token("")).contains("the token is empty"));
        assert!(said(Access::default().with_password("a", "")).contains("the password is empty"));
        for wrong in [&b""[..], b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(said(Access::default().with_authority(wrong.to_vec())).contains("in PEM"));
        }
        let url: PrometheusUrl = "https://not a name".parse().unwrap();
        assert!(Access::default().tls(&url).is_err_and(|e| e.to_string().contains("`not a name`")));
        let plain: PrometheusUrl = "http://not a name".parse().unwrap();
        assert!(Access::default().tls(&plain).unwrap().is_none());
    }
}
