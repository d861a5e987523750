//! The lease is won and kept.

use tenure::lease::{Acquired, Hint, HoldReason, Observed, Released, Renewed};
use tenure::machine::Input;

use super::transcript::*;

#[test]
fn win_and_renew() {
    let mut t = Transcript::new(
        "win_and_renew",
        false,
        None,
        "A free lease is won and renewed.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(310, Input::Renewed(call(2), kept()))
        .wake()
        .step(605, Input::Renewed(call(3), kept()))
        .check();
}

#[test]
fn lost_reply_then_same_grant() {
    let mut t = Transcript::new(
        "lost_reply",
        false,
        Some(5),
        "The answer to an acquire is lost; asking again finds the same grant, and its time\n\
         # counts from the second send.",
    );
    t.step(0, Input::Wake)
        .step(150, Input::Acquired(call(1), Err(uncertain())))
        .wake()
        .step(210, Input::Acquired(call(2), won(7)))
        .check();
}

#[test]
fn grant_arrives_too_late() {
    let mut t = Transcript::new(
        "late_grant",
        false,
        None,
        "A grant is processed when its lease is over: it is dead, given back, and in the floor.",
    );
    t.step(0, Input::Wake)
        .step(979, Input::Acquired(call(1), won(7)))
        .step(985, Input::Released(call(2), Ok(Released::NotHeld)))
        .wake()
        .step(1050, Input::Acquired(call(3), won(8)))
        .check();
}

#[test]
fn renewal_lost_then_incumbent() {
    let mut t = Transcript::new(
        "incumbent",
        false,
        None,
        "The store forgot a lease that stands: its holder asks again as the incumbent, under\n\
         # a new epoch. Later, another holds it: no incumbent then.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(310, Input::Renewed(call(2), Ok(Renewed::Lost(None))))
        .step(320, Input::Acquired(call(3), won(8)))
        .wake()
        .step(
            620,
            Input::Renewed(call(4), Ok(Renewed::Lost(Some(holder(9, "other"))))),
        )
        .check();
}

#[test]
fn hold() {
    let mut t = Transcript::new(
        "hold",
        false,
        Some(9),
        "The store contradicts this node's memory and holds: the node waits it out.",
    );
    let hold = Acquired::Hold {
        retry_in: ms(1012),
        why: HoldReason::StoreWentBack,
    };
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), Ok(hold)))
        .step(
            20,
            Input::Hint(Hint::Present(Observed {
                epoch: Some(epoch(9)),
                holder: None,
            })),
        )
        .wake()
        .step(1025, Input::Acquired(call(2), won(10)))
        .check();
}

#[test]
fn the_same_id_twice() {
    let mut t = Transcript::new(
        "same_id",
        false,
        None,
        "Another session holds the lease under this node's id: said once.",
    );
    let twin = || {
        Ok(Acquired::Held {
            holder: holder(7, "self"),
            left: ms(500),
        })
    };
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), twin()))
        .wake()
        .step(510, Input::Acquired(call(2), twin()))
        .check();
}
