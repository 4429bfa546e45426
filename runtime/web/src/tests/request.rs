//! Requests, without a connection.

use alloc::format;
use alloc::string::String;

use proptest::prelude::*;

use crate::{
    After, Method, REQUEST_BYTES_MAX, Request, RequestReader, Resource, Status, TARGET_BYTES_MAX,
};

/// The answer to a whole request.
fn read(text: &str) -> Result<Request, Status> {
    let mut reader = RequestReader::default();
    let (taken, request) = reader.receive(text.as_bytes());
    assert!(taken <= text.len());
    request.expect("the request is whole")
}

/// What a `GET` with these fields gets.
fn get(target: &str, fields: &str) -> Result<Resource, Status> {
    read(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))?.resource
}

#[test]
fn what_there_is_can_be_asked_for_with_get_and_head_alone() {
    let head = read("HEAD /api/state HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.method, head.resource), (Method::Head, Ok(Resource::State)));
    for (target, resource) in [
        ("/", Ok(Resource::Page)),
        ("/?x", Ok(Resource::Page)),
        ("/metrics", Ok(Resource::Metrics)),
        ("/api/log", Ok(Resource::Log(0))),
        ("/api/log?a=b&since=17", Ok(Resource::Log(17))),
        ("/api/log?since=-1", Err(Status::BadRequest)),
        ("/api/log?since=99999999999999999999", Err(Status::BadRequest)),
        ("/metrics/", Err(Status::NotFound)),
        ("/../etc/passwd", Err(Status::NotFound)),
        ("/%2e", Err(Status::NotFound)),
        ("http://basalt:9090/metrics", Ok(Resource::Metrics)),
        ("HTTP://basalt", Ok(Resource::Page)),
    ] {
        assert_eq!(get(target, ""), resource, "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get", "X"] {
        let refused = read(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(refused, Err(Status::MethodNotAllowed), "{method}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, status) in [
        ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
        ("GET /\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Status::VersionNotSupported),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nAccept: \u{80}\u{ff}\r\n\r\n", Status::Ok),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Status::ContentTooLarge),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            Status::ContentTooLarge,
        ),
        ("\u{16}\u{3}\u{1}\n\n", Status::BadRequest),
    ] {
        let read = read(text);
        match status {
            Status::Ok => assert!(read.is_ok(), "{text:?}"),
            _ => assert_eq!(read, Err(status), "{text:?}"),
        }
    }
    assert!(read("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").is_ok());
    assert!(read("\r\n\n\r\nGET / HTTP/1.1\nHost: a\n\n").is_ok(), "bare line ends are taken");
}

#[test]
fn what_is_too_long_is_refused_by_its_name() {
    let long = "x".repeat(TARGET_BYTES_MAX);
    assert_eq!(get(&format!("/{long}"), ""), Err(Status::TargetTooLong));
    let endless = format!("GET /{}", "x".repeat(REQUEST_BYTES_MAX));
    assert_eq!(read(&endless), Err(Status::TargetTooLong));
    let fields = format!("X: {}\r\n", "x".repeat(REQUEST_BYTES_MAX));
    assert_eq!(get("/", &fields), Err(Status::FieldsTooLarge));
    assert_eq!(get("/", &"X: y\r\n".repeat(64)), Err(Status::FieldsTooLarge));
    assert_eq!(get("/", &"X: y\r\n".repeat(63)), Ok(Resource::Page));
}

#[test]
fn connections_stay_unless_one_end_says_otherwise() {
    let after = |text: &str| read(text).unwrap().after;
    assert_eq!(after("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), After::KeepAlive);
    assert_eq!(after("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"), After::Close);
    assert_eq!(after("GET / HTTP/1.0\r\n\r\n"), After::Close);
    assert_eq!(after("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), After::Close);
}

#[test]
fn the_form_of_the_metrics_is_the_one_that_the_client_likes_best() {
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,\
                      text/plain;version=0.0.4;q=0.3,*/*;q=0.1\r\n";
    for (accept, form) in [
        (prometheus, Ok(Resource::Metrics)),
        ("Accept: */*\r\n", Ok(Resource::Metrics)),
        ("Accept: text/plain\r\n", Ok(Resource::PlainMetrics)),
        ("Accept: text/plain;version=0.0.4, */*;q=0.1\r\n", Ok(Resource::PlainMetrics)),
        ("Accept: image/png\r\n", Err(Status::NotAcceptable)),
    ] {
        assert_eq!(get("/metrics", accept), form, "{accept}");
    }
}

#[test]
fn the_page_is_sent_in_gzip_or_not_at_all_and_only_to_who_has_it_not() {
    assert_eq!(get("/", "Accept-Encoding: br, gzip\r\n"), Ok(Resource::Page));
    assert_eq!(get("/", "Accept-Encoding: identity\r\n"), Err(Status::NotAcceptable));
    let tag = crate::page::TAG;
    assert_eq!(get("/", &format!("If-None-Match: \"x\", {tag}\r\n")), Ok(Resource::SamePage));
    assert_eq!(get("/", "If-None-Match: \"x\"\r\n"), Ok(Resource::Page));
}

#[test]
fn what_follows_a_request_is_left_for_the_next() {
    let one = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let both: String = [one, "HEAD /"].concat();
    let mut reader = RequestReader::default();
    let (taken, request) = reader.receive(both.as_bytes());
    assert_eq!(taken, one.len());
    assert_eq!(request.unwrap().unwrap().resource, Ok(Resource::Metrics));
    assert!(reader.is_empty());
}

proptest! {
    #[test]
    fn a_request_in_pieces_is_read_as_one_in_a_piece(
        cuts in proptest::collection::vec(1_usize..40, 1..20),
        noise in proptest::collection::vec(any::<u8>(), 0..60),
        place in 0_usize..100,
    ) {
        let request = "GET /api/log?since=5 HTTP/1.1\r\nHost: a\r\nAccept: text/*\r\n\r\n";
        let mut bytes = request.as_bytes().to_vec();
        let place = place.min(bytes.len());
        bytes.splice(place..place, noise);
        let whole = RequestReader::default().receive(&bytes);
        let (mut reader, mut rest, mut cuts) =
            (RequestReader::default(), &bytes[..], cuts.iter().cycle());
        let (mut taken, mut request) = (0, None);
        while request.is_none() && !rest.is_empty() {
            let piece = rest.len().min(*cuts.next().unwrap());
            let (some, answer) = reader.receive(&rest[..piece]);
            (taken, request, rest) = (taken + some, answer, &rest[some..]);
        }
        prop_assert_eq!((taken, request), whole);
    }
}
