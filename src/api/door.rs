//! One listener's door: who is let in, and what is served behind it.

use std::convert::Infallible;
use std::future::ready;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::TryFutureExt as _;
use futures_util::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use tower_service::Service as _;

use super::{Shared, guard};

/// The routes of a listener and their guard. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    router: Router,
    /// Whose rules a request must keep; the probes' door has none.
    guarded: Option<Shared>,
}

impl Door {
    pub(super) fn new(router: Router, guarded: Option<Shared>) -> Self {
        Self { router, guarded }
    }

    /// One request. Not a middleware of the router: that would cost a clone of the
    /// route and a box for each request.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let guarded = self.guarded.as_ref();
        let refused = guarded.and_then(|shared| guard::check(shared, &request).err());
        let answer = match refused {
            Some(problem) => Either::Left(ready(Ok(problem.into_response()))),
            None => Either::Right(self.router.clone().call(request.map(Body::new))),
        };
        answer.map_ok(|mut response| {
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(CACHE_CONTROL, no_store);
            response
        })
    }
}
