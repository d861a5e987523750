//! Which path leads where, on which listener. Every route is registered with its
//! description (`routes!`), so that `/openapi.json` cannot leave one out.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::{
    Shared, checkpoint, cluster, events, fence_token, leadership, metrics, openapi, page, process,
    step_down,
};

type Routes = OpenApiRouter<Shared>;

/// What of a path comes before an election's own routes.
pub const PREFIX: &str = "/elections/{name}";

/// The routes that need no token, and that the probes' listener serves.
const OPEN: [&str; 6] = [
    "/leader",
    "/follower",
    "/livez",
    "/healthz",
    "/readyz",
    "/metrics",
];

/// Whether a path is open to anybody. What is not named here is not.
pub fn is_open(path: &str) -> bool {
    let of_election = path
        .strip_prefix("/elections/")
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, rest)| rest);
    match of_election {
        Some(rest) => ["leader", "follower"].contains(&rest),
        None => OPEN.contains(&path),
    }
}

/// The API's listener.
pub fn api(shared: Shared) -> Router {
    finish(described().split_for_parts().0, shared)
}

/// The probes' listener; with `status`, what may be looked at from another machine.
pub fn probes(shared: Shared, status: bool) -> Router {
    let mut routes = twice(probes_of_election).merge(probes_of_process());
    if status {
        routes = routes
            .merge(twice(shown_of_election))
            .routes(routes!(page::read_only_page));
    }
    finish(routes.split_for_parts().0, shared)
}

/// The description of all routes of the API's listener.
pub fn description() -> OpenApi {
    described().split_for_parts().1
}

fn described() -> Routes {
    twice(probes_of_election)
        .merge(probes_of_process())
        .merge(twice(shown_of_election))
        .merge(twice(rest_of_election))
        .merge(rest_of_process())
}

/// For the first election, and for each by its name.
fn twice(routes: fn() -> Routes) -> Routes {
    routes().nest(PREFIX, routes())
}

fn finish(router: Router<Shared>, shared: Shared) -> Router {
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .with_state(shared)
}

fn probes_of_election() -> Routes {
    Routes::default()
        .routes(routes!(leadership::leader))
        .routes(routes!(leadership::follower))
}

fn probes_of_process() -> Routes {
    Routes::default()
        .routes(routes!(process::livez))
        .routes(routes!(process::healthz))
        .routes(routes!(process::readyz))
        .routes(routes!(metrics::metrics))
}

/// What `--probe-status` adds to the probes; read-only, all of it.
fn shown_of_election() -> Routes {
    Routes::default()
        .routes(routes!(leadership::get_status))
        .routes(routes!(events::events))
        .routes(routes!(leadership::history))
}

fn rest_of_election() -> Routes {
    Routes::default()
        .routes(routes!(fence_token::fence_token))
        .routes(routes!(fence_token::validate))
        .routes(routes!(step_down::step_down))
        .routes(routes!(checkpoint::get, checkpoint::put))
}

fn rest_of_process() -> Routes {
    Routes::default()
        .routes(routes!(page::page))
        .routes(routes!(process::elections))
        .routes(routes!(cluster::status))
        .routes(routes!(cluster::add))
        .routes(routes!(cluster::remove))
        .routes(routes!(cluster::replace))
        .routes(routes!(openapi::openapi))
}

async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    let detail = format!("there is nothing at {path}; see /status, /leader, /elections");
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let detail = format!(
        "{} is not served here; see the header Allow",
        request.method()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn paths(routes: Routes) -> BTreeSet<String> {
        let paths = routes.split_for_parts().1.paths.paths;
        paths.into_keys().collect()
    }

    /// The paths that a router has, out of its debug print: axum lists them nowhere.
    fn registered(routes: Routes) -> BTreeSet<String> {
        let printed = format!("{:?}", routes.split_for_parts().0);
        let path = |text: &&str| text.starts_with('/') && !text.contains("__private");
        let quoted = printed.split('"').filter(path);
        quoted.map(ToOwned::to_owned).collect()
    }

    #[test]
    fn the_open_paths_are_those_of_the_probes() {
        let probes = twice(probes_of_election).merge(probes_of_process());
        let named = |path: &str| path.replace("{name}", "orders");
        for path in paths(probes) {
            assert!(is_open(&named(&path)), "{path}");
        }
        let others = twice(shown_of_election)
            .merge(twice(rest_of_election))
            .merge(rest_of_process());
        for path in paths(others) {
            assert!(!is_open(&named(&path)), "{path}");
        }
        for near in [
            "/leader/",
            "//leader",
            "/elections/leader",
            "/elections/a/livez",
            "/elections/a/b/leader",
            "/elections//leader/",
            "/LEADER",
            "/x/leader",
        ] {
            assert!(!is_open(near), "{near}");
        }
    }

    #[test]
    fn every_route_is_described() {
        let described = described();
        assert!(registered(described.clone()).len() > 20);
        assert_eq!(registered(described.clone()), paths(described));
        // One that came in without a description would be seen.
        let other = super::described().route("/other", axum::routing::get(|| async {}));
        assert!(registered(other).contains("/other"));
    }
}
