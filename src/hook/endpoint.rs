//! Where the app is called, and how a call is made.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Uri};

use super::secrets::{Secrets, SecretsError};
use crate::outbound::{Limits, OutboundError, send};
use crate::sidecar::Outcome;
use crate::time::{UnixMs, within};

/// A file system that hangs must not hold a call back for longer.
const READ_TIME: Duration = Duration::from_millis(500);

/// The app's hook.
pub(super) struct Endpoint {
    url: Uri,
    secret_file: Option<PathBuf>,
    newest: Mutex<Option<Arc<Secrets>>>,
    timeout: Duration,
}

impl Endpoint {
    /// Reads the keys for the first time.
    pub fn new(
        url: Uri,
        secret_file: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<Self, SecretsError> {
        let secrets = secret_file.as_deref().map(Secrets::read).transpose()?;
        Ok(Self {
            url,
            secret_file,
            newest: Mutex::new(secrets.map(Arc::new)),
            timeout,
        })
    }

    /// Calls the app once; what came of it, and in words what went wrong. The answer may
    /// take as long as `patience` where that is longer than a call usually may.
    pub async fn post(
        &self,
        id: &str,
        body: Vec<u8>,
        wall: UnixMs,
        patience: Duration,
    ) -> (Outcome, String) {
        let timestamp = wall.0 / 1_000;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp);
        if let Some(secrets) = self.secrets().await {
            request = request.header("webhook-signature", secrets.sign(id, timestamp, &body));
        }
        let request = match request.body(Full::new(Bytes::from(body))) {
            Ok(request) => request,
            Err(error) => return (Outcome::Broken, error.to_string()),
        };
        let limits = Limits {
            connect: self.timeout,
            answer: self.timeout.max(patience),
        };
        match send(request, limits, false).await {
            Ok(answer) if answer.status.is_success() => (Outcome::Delivered, String::new()),
            Ok(answer) if answer.status.is_redirection() => {
                let text = format!("it answers {}, which is not followed", answer.status);
                (Outcome::Redirected, text)
            }
            Ok(answer) => (Outcome::Rejected, format!("it answers {}", answer.status)),
            Err(error) => {
                let outcome = match error {
                    OutboundError::Late(_) => Outcome::Timeout,
                    OutboundError::Unreachable(_) => Outcome::Unreachable,
                    OutboundError::Broken(_) => Outcome::Broken,
                };
                (outcome, error.to_string())
            }
        }
    }

    /// The keys as they are in the file now: a rotation needs no restart. A file that
    /// cannot be used, half written perhaps, changes nothing.
    async fn secrets(&self) -> Option<Arc<Secrets>> {
        let path = self.secret_file.clone()?;
        let shown = path.display().to_string();
        // On a thread of its own.
        let read = tokio::task::spawn_blocking(move || Secrets::read(&path));
        let fresh = match within(READ_TIME, read).await {
            Some(Ok(Ok(fresh))) => Some(Arc::new(fresh)),
            Some(Ok(Err(error))) => {
                tracing::warn!("--hook-secret-file {shown}: {error}; the last keys are used");
                None
            }
            _ => None,
        };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.is_some() {
            *newest = fresh;
        }
        newest.clone()
    }
}
