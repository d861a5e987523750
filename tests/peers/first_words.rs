//! The handshake: who fits is taken, and whoever does not is told why.

use tenure::peers::MemberId;
use tenure::peers::frame::{Body, Frame};
use tenure::peers::handshake::{Known, Refusal, check, compare, hello};

use super::Node;

fn greeting(node: &Node, to: &str) -> Frame {
    let said = hello(&node.identity, &node.members, to.parse().unwrap());
    node.frame(1, Body::Hello(said))
}

fn refused(by: &Node, frame: &Frame, meant: Option<MemberId>) -> String {
    check(frame, &by.identity, &by.members, meant)
        .unwrap_err()
        .to_string()
}

#[test]
fn who_fits_is_taken() {
    let (a, b) = (
        Node::new("orders", "a", &["a", "b"]),
        Node::new("orders", "b", &["b", "a"]),
    );
    let bytes = greeting(&a, "b").encode().unwrap();
    let mut decoder = tenure::peers::frame::Decoder::default();
    decoder.feed(&bytes);
    let frame = decoder.next_frame().unwrap().unwrap();
    let said = check(&frame, &b.identity, &b.members, None).unwrap();
    assert_eq!(said.disk, a.identity.disk);
}

#[test]
fn each_mismatch_has_its_sentence() {
    let own = Node::new("orders", "b", &["a", "b", "c"]);
    let node = |cluster, id, list: &[&str]| Node::new(cluster, id, list);
    let other = node("bills", "a", &["a", "b", "c"]);
    let said = refused(&own, &greeting(&other, "b"), None);
    assert!(
        said.contains("\"bills\"") && said.contains("\"orders\""),
        "{said}"
    );
    let twin = node("orders", "b", &["a", "b", "c"]);
    let said = refused(&own, &greeting(&twin, "b"), None);
    assert!(said.contains("two nodes have the id b"), "{said}");
    let fewer = node("orders", "a", &["a", "b"]);
    let said = refused(&own, &greeting(&fewer, "b"), None);
    assert!(said.contains("lists a,b, node b lists a,b,c"), "{said}");
    let fits = node("orders", "a", &["a", "b", "c"]);
    let said = refused(&own, &greeting(&fits, "c"), None);
    assert!(
        said.contains("node c was meant to be there, and node b is"),
        "{said}"
    );
    let said = refused(&own, &greeting(&fits, "b"), Some("c".parse().unwrap()));
    assert!(
        said.contains("node c was meant to be there, and node a is"),
        "{said}"
    );
    let said = refused(&own, &fits.frame(1, Body::Heartbeat), None);
    assert!(said.contains("the first frame must be a hello"), "{said}");
}

#[test]
fn a_disk_or_a_start_that_is_not_the_known_one_is_refused() {
    let id: MemberId = "a".parse().unwrap();
    let disk = |_| Node::new("orders", "a", &["a"]).identity.disk;
    let [first, second] = [0, 1].map(disk);
    let mut known = Known {
        disk: Some(first.clone()),
        incarnation: 4,
        alive: true,
    };
    assert_eq!(compare(&Known::default(), id, &first, 1), Ok(()));
    assert_eq!(compare(&known, id, &first, 4), Ok(()));
    assert_eq!(compare(&known, id, &first, 5), Ok(()));
    let refusal = |known: &_, disk, start| compare(known, id, disk, start).unwrap_err();
    assert!(matches!(
        refusal(&known, &first, 3),
        Refusal::OldStart { .. }
    ));
    assert!(matches!(
        refusal(&known, &second, 9),
        Refusal::TwoNodes { .. }
    ));
    known.alive = false;
    assert!(matches!(
        refusal(&known, &second, 9),
        Refusal::ChangedDisk { .. }
    ));
}
