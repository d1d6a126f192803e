//! The web page, as it was built into this program: see `manager/web/`.

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// What the page may load: nothing but itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What every answer says to browsers.
const SAFETY: [(&str, &str); 5] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// What is shown where the page was left out.
const LEFT_OUT: &str = "This pgherd was built without its web page (`make page` builds it, and needs Node.js). Everything that it shows is at /api/v1 \
    (see /api/v1/openapi.json), on the console (psql, database pgherd), and in `pgherd status`.\n";

/// The views: `manager/web/src/app/pages.ts` has the same. A path that begins otherwise leads a browser to the page all the same, and is
/// nothing to anybody else: a health check that has mistaken its address must not be told that all is well.
const VIEWS: [&str; 10] =
    ["", "replication", "pools", "statements", "activity", "events", "nodes", "backups", "swarm", "settings"];
/// What is told who does not take what a file is kept as.
const PACKED: &str =
    "This file is kept compressed: ask for it with Accept-Encoding: gzip (curl --compressed).\n";

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/page"]
struct Files;

/// Whether there is a page.
pub(crate) const IS_THERE: bool = cfg!(has_page);

pub(crate) fn routes() -> Router {
    Router::new().fallback(get(page))
}

/// The page, or a file of it.
pub async fn page(uri: Uri, headers: HeaderMap) -> Response {
    let mut response = file(&uri, &headers);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    safe(response).await
}

/// Adds what browsers are told with every answer.
pub(crate) async fn safe(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in SAFETY {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// A file of the page, or the page where a view is asked for.
fn file(uri: &Uri, headers: &HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") {
        return (StatusCode::NOT_FOUND, format!("There is no {}: see /api/v1/openapi.json.\n", uri.path()))
            .into_response();
    }
    let is_view = path.split('/').next().is_some_and(|first| VIEWS.contains(&first));
    let leads_to_page = is_view || (!path.contains('.') && accepts_page(headers));
    if !IS_THERE && (leads_to_page || !path.contains('.')) {
        return (StatusCode::NOT_FOUND, LEFT_OUT).into_response();
    }
    let name = if leads_to_page { "index.html" } else { path };
    let takes_gzip = takes_gzip(headers);
    let (plain, packed) = (Files::get(name), Files::get(&format!("{name}.gz")));
    match (plain, packed) {
        (_, Some(packed)) if takes_gzip => serve(name, packed, true, headers),
        (Some(plain), _) => serve(name, plain, false, headers),
        (None, Some(_)) => (StatusCode::NOT_ACCEPTABLE, PACKED).into_response(),
        (None, None) => (StatusCode::NOT_FOUND, "There is no such file.\n").into_response(),
    }
}

/// Browsers say so where somebody has typed an address; other programs do not.
fn accepts_page(headers: &HeaderMap) -> bool {
    listed(headers, &ACCEPT).any(|(what, _)| what.eq_ignore_ascii_case("text/html"))
}

/// Whether an answer may be compressed: whoever says nothing takes anything (RFC 9110, 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    !headers.contains_key(ACCEPT_ENCODING)
        || listed(headers, &ACCEPT_ENCODING).any(|(what, is_refused)| {
            !is_refused && ["gzip", "x-gzip", "*"].iter().any(|it| what.eq_ignore_ascii_case(it))
        })
}

/// What a header lists, and whether it is listed as what is not to come (`q=0`).
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = (&'a str, bool)> {
    let values = headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|it| it.split(',')).map(|item| {
        let (what, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim().trim_start_matches(['q', 'Q']).trim_start_matches('=');
        (what.trim(), weight.parse::<f32>().is_ok_and(|it| it == 0.0))
    })
}

fn serve(name: &str, file: EmbeddedFile, is_packed: bool, headers: &HeaderMap) -> Response {
    let tag =
        file.metadata.sha256_hash().iter().take(16).fold("\"".to_owned(), |tag, it| format!("{tag}{it:02x}"));
    let tag = format!("{tag}\"");
    // Names of assets change with what is in them.
    let keep = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, content_type(name))], Body::from(file.data.into_owned())).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    if is_packed {
        answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        answer.insert(ETAG, tag);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_views_are_those_of_the_page() {
        let pages = include_str!("../web/src/app/pages.ts");
        let paths =
            pages.lines().filter_map(|line| line.trim().strip_prefix("{ path: \"")?.split('"').next());
        assert_eq!(paths.collect::<Vec<_>>(), VIEWS);
    }

    #[test]
    fn a_path_that_is_no_view_and_no_file_is_nothing() {
        let asked = |path: &str, headers: &HeaderMap| file(&path.parse().expect("a path"), headers).status();
        let status = |path: &str| asked(path, &HeaderMap::new());
        for path in ["/nothing", "/healthz", "/api", "/api/nothing", "/poolsx", "/x.js", "/../secret.txt"] {
            assert_eq!(status(path), StatusCode::NOT_FOUND, "{path}");
        }
        let of_views = if IS_THERE { StatusCode::OK } else { StatusCode::NOT_FOUND };
        for path in ["/", "/pools", "/pools/clients", "/settings"] {
            assert_eq!(status(path), of_views, "{path}");
        }
        let browser = HeaderMap::from_iter([(
            ACCEPT,
            HeaderValue::from_static("application/xhtml+xml,text/html;q=0.9"),
        )]);
        assert_eq!(asked("/nothing", &browser), of_views);
        assert_eq!(asked("/nothing.js", &browser), StatusCode::NOT_FOUND);
    }

    #[test]
    fn what_is_kept_compressed_comes_so_but_to_whom_refuses_it() {
        let says = |it: &'static str| HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(it))]);
        let takes = ["gzip", "br, GZIP", "x-gzip", "*", "gzip;q=0.1", "deflate, gzip; q=1.0"].map(says);
        let refuses = ["", "identity", "br", "gzip;q=0", "gzip; q=0.000", "gzipped"].map(says);
        assert!(takes_gzip(&HeaderMap::new()) && takes.iter().all(takes_gzip));
        assert!(!refuses.iter().any(takes_gzip));
        for packed in Files::iter().filter_map(|name| name.strip_suffix(".gz").map(str::to_owned)) {
            let uri: Uri = format!("/{packed}").parse().expect("a path");
            let answer = file(&uri, &HeaderMap::new());
            assert_eq!(answer.status(), StatusCode::OK, "{packed}");
            assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip", "{packed}");
            let plain = file(&uri, &refuses[1]).status();
            let there =
                if Files::get(&packed).is_some() { StatusCode::OK } else { StatusCode::NOT_ACCEPTABLE };
            assert_eq!(plain, there, "{packed}");
        }
    }
}
