//! Mutual TLS between peers: each side shows a certificate of the cluster's authority and
//! takes no other side without one.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::mesh::BEGUN_WITHIN;
use super::sockets::Stream;
use super::wireframe::{Ended, part};
use crate::time::within;
use crate::wire::{CredentialFiles, Credentials, CredentialsError, Login, Speech, vouches};

/// What this node shows its peers and asks of them; follows the files.
pub(super) struct Secure {
    credentials: Credentials,
}

/// What the other side has proved: the certificate that it holds the key of.
pub(super) struct Shown(CertificateDer<'static>);

impl Shown {
    /// Whether the certificate is for this host.
    pub fn is_for(&self, host: &str) -> bool {
        vouches(&self.0, host)
    }
}

impl Secure {
    pub fn load(files: CredentialFiles) -> Result<Self, CredentialsError> {
        let credentials = Credentials::load(files, Login::default(), Some(Speech::Peers))?;
        Ok(Self { credentials })
    }

    /// Takes up changed files for the connections to come. Never ends.
    pub async fn follow(&self) {
        loop {
            let used = self.credentials.newest();
            self.credentials.newer_than(&used).await;
            tracing::info!("the changed certificates hold for new connections to peers");
        }
    }

    /// Begins TLS as who connected, with the peer that listens on `host`.
    pub async fn dial(
        &self,
        host: &str,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, Ended> {
        let loaded = self.credentials.newest();
        let Some(config) = &loaded.tls else {
            return Err(Ended::Tls("this node has no certificate".to_owned()));
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Ended::Tls(format!("no certificate can be for the host {host:?}")))?;
        let begun = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        match within(BEGUN_WITHIN, begun).await {
            Some(Ok(stream)) => Ok(Box::new(stream)),
            Some(Err(error)) => Err(Ended::of_tls(error, host)),
            None => Err(Ended::Slow(
                "it accepts connections and does not begin TLS: it hangs, or another program \
                 listens there",
            )),
        }
    }

    /// Begins TLS as who was connected to.
    pub async fn accept(&self, stream: Box<dyn Stream>) -> Result<(Box<dyn Stream>, Shown), Ended> {
        let loaded = self.credentials.newest();
        let Some(config) = &loaded.serves else {
            return Err(Ended::Tls("this node has no certificate".to_owned()));
        };
        let begun = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        let stream = match within(BEGUN_WITHIN, begun.into_fallible()).await {
            Some(Ok(stream)) => stream,
            Some(Err((error, stream))) => {
                // The alert, which is on its way, tells the other side.
                let (mut from, mut to) = tokio::io::split(stream);
                part(&mut from, &mut to).await;
                return Err(Ended::of_tls(error, ""));
            }
            None => return Err(Ended::Slow("it connected and did not begin TLS")),
        };
        let shown = stream.get_ref().1.peer_certificates();
        match shown.and_then(<[_]>::first) {
            Some(certificate) => {
                let shown = Shown(certificate.clone().into_owned());
                Ok((Box::new(stream), shown))
            }
            None => Err(Ended::Tls("it shows no certificate".to_owned())),
        }
    }
}
