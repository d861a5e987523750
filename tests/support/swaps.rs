//! What servers tell a client of each other's ports, changed on its way: the client is led
//! to the proxies instead.

use std::sync::Arc;

/// What replies say, and what is passed on in its place; both of one length.
pub type Swaps = Arc<Vec<(String, String)>>;

const ADDRESS: &str = "127.0.0.1";

/// The longest text that tells a port.
const LOOKED_BACK: usize = 40;

/// Changes the replies of one connection.
pub struct Swapping<'a> {
    swaps: &'a [(String, String)],
    /// The end of what was passed on, and what waits for the end of its line.
    bytes: Vec<u8>,
    passed: usize,
}

impl<'a> Swapping<'a> {
    pub fn new(swaps: &'a [(String, String)]) -> Self {
        Self {
            swaps,
            bytes: Vec::new(),
            passed: 0,
        }
    }

    /// Takes what came, and returns what may go on: whole lines, with which each reply of
    /// a Redis ends, so that no port is seen in two parts. Nothing came at the end.
    pub fn pass(&mut self, came: &[u8]) -> Vec<u8> {
        if self.swaps.is_empty() {
            return came.to_vec();
        }
        self.bytes.extend(came);
        let end = self.bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = match end {
            _ if came.is_empty() => self.bytes.len(),
            Some(end) if end >= self.passed => end + 1,
            _ => return Vec::new(),
        };
        self.swap(whole);
        let lines = self.bytes[self.passed..whole].to_vec();
        let kept = whole.saturating_sub(LOOKED_BACK);
        self.bytes.drain(..kept);
        self.passed = whole - kept;
        lines
    }

    /// A number is a port where it stands whole, and beside its address: one that is a part
    /// of an epoch or of an id, or a number of milliseconds, is none.
    fn swap(&mut self, whole: usize) {
        let mut at = self.passed;
        while at < whole {
            let rest = &self.bytes[at..whole];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            let end = at + digits.count();
            if let Some(instead) = self.instead(at, end) {
                self.bytes[at..end].copy_from_slice(instead.as_bytes());
            }
            at = end.max(at + 1);
        }
    }

    fn instead(&self, at: usize, end: usize) -> Option<&'a str> {
        let number = &self.bytes[at..end];
        let mut swaps = self.swaps.iter();
        let (told, instead) = swaps.find(|(told, _)| told.as_bytes() == number)?;
        let size = told.len();
        let beside = [
            // `MOVED`, and what a Sentinel calls a server.
            ":".to_owned(),
            // What a Sentinel publishes.
            " ".to_owned(),
            // `CLUSTER SLOTS`.
            "\r\n:".to_owned(),
            // `SENTINEL GET-MASTER-ADDR-BY-NAME`.
            format!("\r\n${size}\r\n"),
            // `SENTINEL SENTINELS` and `REPLICAS`.
            format!("\r\n$4\r\nport\r\n${size}\r\n"),
            // `INFO replication`, at a master and at a replica.
            ",port=".to_owned(),
            "\r\nmaster_port:".to_owned(),
        ];
        let before = &self.bytes[..at];
        let follows = |between: &String| before.ends_with(format!("{ADDRESS}{between}").as_bytes());
        beside.iter().any(follows).then_some(instead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swaps() -> Swaps {
        let swap = |told: &str, instead: &str| (told.to_owned(), instead.to_owned());
        Arc::new(vec![swap("20001", "40009"), swap("20002", "40008")])
    }

    /// What is passed on of `text`, however it comes.
    #[track_caller]
    fn passes(text: &str, expected: &str) {
        for cut in 0..=text.len() {
            let swaps = swaps();
            let mut swapping = Swapping::new(&swaps);
            let (first, second) = text.as_bytes().split_at(cut);
            let mut passed = Vec::new();
            // None would be the end.
            for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
                passed.extend(swapping.pass(part));
            }
            let passed = String::from_utf8(passed).unwrap();
            assert_eq!(passed, expected, "cut at {cut}");
        }
    }

    #[test]
    fn ports_are_swapped_in_every_reply_that_tells_them() {
        for told in [
            "-MOVED 7 127.0.0.1:20001\r\n",
            "$44\r\nmymaster 127.0.0.1 20001 127.0.0.1 20002\r\n",
            "*4\r\n$9\r\n127.0.0.1\r\n:20001\r\n$2\r\nid\r\n*0\r\n",
            "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n20001\r\n",
            "$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$5\r\n20002\r\n",
            "slave0:ip=127.0.0.1,port=20001,state=online\r\n",
            "master_host:127.0.0.1\r\nmaster_port:20002\r\n",
        ] {
            let expected = told.replace("20001", "40009").replace("20002", "40008");
            passes(told, &expected);
        }
    }

    #[test]
    fn other_numbers_stay() {
        for kept in [
            // An epoch that contains a port, begins with one, or ends with one.
            ":1720001345678\r\n",
            ":2000134567890\r\n",
            ":1734567820001\r\n",
            // What is left of a lease, in milliseconds.
            "*2\r\n$3\r\nwon\r\n:20001\r\n",
            // Ids.
            "$16\r\na20001b20002cdef\r\n",
            // Beside an address, and longer than a port that it contains.
            "-MOVED 7 127.0.0.1:200010\r\n",
            "-MOVED 7 127.0.0.1:120001\r\n",
            // The address of one, and the number of something else.
            "*2\r\n$9\r\n127.0.0.1\r\n$4\r\nleft\r\n:20001\r\n",
        ] {
            passes(kept, kept);
        }
    }

    #[test]
    fn what_is_no_whole_line_comes_at_the_end() {
        let swaps = swaps();
        let mut swapping = Swapping::new(&swaps);
        assert_eq!(swapping.pass(b"+OK\r\n-MOVED 7 127.0.0.1:2"), b"+OK\r\n");
        assert_eq!(swapping.pass(b""), b"-MOVED 7 127.0.0.1:2");
        let none = Arc::<Vec<_>>::default();
        assert_eq!(Swapping::new(&none).pass(b"\x00 half"), b"\x00 half");
    }
}
