//! Frames: however the bytes are split they are the same frames, and what is no frame
//! is an error with a sentence, never a panic.

use proptest::prelude::*;
use serde_json::json;
use tenure::peers::frame::{Body, Decoder, Frame, FrameError, LONGEST_FRAME};

use super::Node;

fn frames(texts: &[String]) -> Vec<Frame> {
    let node = Node::new("orders", "a", &["a", "b"]);
    let body = |(at, text): (usize, &String)| match at % 3 {
        0 => Body::Message {
            body: json!({ "type": "vote", "text": text }),
        },
        1 => Body::Heartbeat,
        _ => Body::Reply {
            body: json!([text, null, 7]),
        },
    };
    let numbered = texts.iter().enumerate();
    numbered
        .map(|(at, text)| node.frame(at as u64, body((at, text))))
        .collect()
}

fn decoded(pieces: &[&[u8]]) -> Result<Vec<Frame>, FrameError> {
    let (mut decoder, mut got) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece);
        while let Some(frame) = decoder.next_frame()? {
            got.push(frame);
        }
    }
    decoder.finish().map(|()| got)
}

fn announced(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_split_gives_the_same_frames(
        texts in prop::collection::vec(any::<String>(), 1..6),
        sizes in prop::collection::vec(1usize..40, 1..20),
    ) {
        let sent = frames(&texts);
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.encode().unwrap()).collect();
        let (mut rest, mut pieces) = (&bytes[..], Vec::new());
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(decoded(&pieces).unwrap(), sent);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(&[&bytes]);
        prop_assert!(decoded(&[&announced(&bytes)]).is_err());
    }
}

#[test]
fn a_frame_of_two_gigabytes_is_refused_at_its_head() {
    let error = decoded(&[&2_000_000_000u32.to_be_bytes()]).unwrap_err();
    assert!(error.to_string().contains("2000000000 bytes"), "{error}");
    let http = decoded(&[b"GET / HTTP/1.1\r\n\r\n"]).unwrap_err();
    assert!(
        http.to_string().contains("no peer of this cluster"),
        "{http}"
    );
    let node = Node::new("orders", "a", &["a", "b"]);
    let long = node.frame(
        1,
        Body::Message {
            body: json!("x".repeat(LONGEST_FRAME)),
        },
    );
    assert!(matches!(long.encode(), Err(FrameError::TooLong { .. })));
}

#[test]
fn what_is_no_frame_is_told_apart() {
    let deep = "[".repeat(100_000);
    for text in ["", "{}", "null", r#"{"v":1}"#, "{\"v\":1,", &deep] {
        let error = decoded(&[&announced(text.as_bytes())]).unwrap_err();
        assert!(matches!(error, FrameError::Malformed(_)), "{error}");
    }
    let newer = decoded(&[&announced(br#"{"v":2,"all":"new"}"#)]).unwrap_err();
    assert!(
        newer.to_string().contains("version 2 is newer than 1"),
        "{newer}"
    );
    let cut = decoded(&[&[0, 0, 1], &[0, b'{']]).unwrap_err();
    assert_eq!(cut, FrameError::Cut { got: 5 });
}
