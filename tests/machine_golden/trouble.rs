//! The store or the process is in trouble.

use tenure::machine::Input;

use super::transcript::*;

#[test]
fn indeterminate_renewals_until_expiry() {
    let mut t = Transcript::new(
        "indeterminate",
        true,
        None,
        "No renewal is answered for sure: nothing is prolonged, nothing ended before its\n\
         # time; at leads_until the app is drained, and no campaign before ends_at.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(450, Input::Renewed(call(2), Err(uncertain())))
        .wake()
        .step(650, Input::Renewed(call(3), Err(uncertain())))
        .wake()
        .wake()
        .step(800, Input::Renewed(call(4), kept()))
        .wake()
        .step(990, Input::Acquired(call(5), won(8)))
        .check();
}

#[test]
fn store_trouble_backs_off() {
    let mut t = Transcript::new(
        "store_trouble",
        false,
        None,
        "The store refuses connections: the pauses double up to a renewal's interval; told once.",
    );
    t.step(0, Input::Wake);
    for number in 1..=6 {
        t.after(1, Input::Acquired(call(number), Err(down())))
            .wake();
    }
    t.after(1, Input::Acquired(call(7), held(7, 900))).check();
}

#[test]
fn pause_beyond_the_lease_then_late_kept() {
    let mut t = Transcript::new(
        "pause",
        false,
        None,
        "The process was stopped for 5 s with a renewal under way; its answer is found first.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(5300, Input::Renewed(call(2), kept()))
        .step(5310, Input::Acquired(call(3), held(8, 500)))
        .check();
}
