//! Named moments at which a test ends this process or makes it panic, and deliberate mistakes that a test has to find.
//!
//! Owns three environment variables, read only in a build with the feature `failpoints`; without it every call is nothing.
//! - `SMARTROUTER_FAILPOINT=NAME=N`: SIGKILL at the Nth passing of that moment; `NAME=N:MICROS`: that long after it, from another
//!   thread, so that the process dies within what follows.
//! - `SMARTROUTER_BROKEN=NAME`: the mistake of that name is made; `NAME=N`: at its Nth opportunity only; `NAME=%N`: at every Nth.
//! - `SMARTROUTER_PANIC=WORK-PARTITION=..N`: that work panics for that partition, the first N times; `WORK-PARTITION`: always.
//!
//! Never fails softly and never returns an error. Who passes what is found by searching for the names; `tests/torture` drives them.

#[cfg(not(feature = "failpoints"))]
mod switched {
    #[inline]
    pub fn pass(_name: &'static str) {}

    #[inline]
    pub fn is_broken(_name: &'static str) -> bool {
        false
    }

    #[inline]
    pub fn panic_in(_work: &'static str, _partition: i32) {}
}

#[cfg(feature = "failpoints")]
mod switched {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    /// In the message of every panic that is made here.
    const SECRET: &str = "secret-4711";

    struct Armed {
        name: String,
        passing: Passing,
        delay: Option<Duration>,
        passed: AtomicU64,
    }

    #[derive(Clone, Copy)]
    enum Passing {
        Each,
        EachOf(u64),
        Only(u64),
        First(u64),
    }

    impl Passing {
        fn parse(text: &str) -> Self {
            let number = |text: &str, passing: fn(u64) -> Self| text.parse().map_or(Self::Each, passing);
            match (text.strip_prefix('%'), text.strip_prefix("..")) {
                (Some(each), _) => number(each, Self::EachOf),
                (None, Some(first)) => number(first, Self::First),
                (None, None) => number(text, Self::Only),
            }
        }

        fn is_due(self, passed: u64) -> bool {
            match self {
                Self::Each => true,
                Self::EachOf(number) => passed.is_multiple_of(number),
                Self::Only(number) => passed == number,
                Self::First(number) => passed <= number,
            }
        }
    }

    impl Armed {
        fn parse(text: &str) -> Self {
            let (name, rest) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
            let (passing, delay) = match rest.map(|rest| rest.split_once(':').unwrap_or((rest, ""))) {
                Some((passing, delay)) => (Passing::parse(passing), delay.parse().ok().map(Duration::from_micros)),
                None => (Passing::Each, None),
            };
            Self { name: name.to_owned(), passing, delay, passed: AtomicU64::new(0) }
        }

        fn is_due(&self, name: &str) -> bool {
            if self.name != name {
                return false;
            }
            self.passing.is_due(self.passed.fetch_add(1, Ordering::SeqCst) + 1)
        }
    }

    fn armed(cell: &'static OnceLock<Option<Armed>>, variable: &str) -> Option<&'static Armed> {
        cell.get_or_init(|| std::env::var(variable).ok().map(|text| Armed::parse(&text))).as_ref()
    }

    /// The process passes the moment of this name.
    pub fn pass(name: &'static str) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let Some(armed) = armed(&ARMED, "SMARTROUTER_FAILPOINT").filter(|armed| armed.is_due(name)) else { return };
        let Some(delay) = armed.delay else { return die() };
        thread::spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < delay {
                std::hint::spin_loop();
            }
            die();
        });
    }

    /// Whether the mistake of this name is to be made here.
    pub fn is_broken(name: &'static str) -> bool {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        armed(&ARMED, "SMARTROUTER_BROKEN").is_some_and(|armed| armed.is_due(name))
    }

    /// A mistake in this work that ends in a panic. Its message is made of data, as that of a careless line may be: it has to stay unseen.
    #[allow(clippy::panic, clippy::manual_assert, reason = "the panic is what a test asks for")]
    pub fn panic_in(work: &'static str, partition: i32) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        if armed(&ARMED, "SMARTROUTER_PANIC").is_some_and(|armed| armed.is_due(&format!("{work}-{partition}"))) {
            panic!("no state for customer {SECRET}");
        }
    }

    /// As `kill -9` does it: nothing is flushed, nobody is told.
    fn die() {
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGKILL);
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_passing_is_due_once_or_always() {
            let due = |text: &str, passings: usize| {
                let armed = Armed::parse(text);
                (1..=passings).filter(|_| armed.is_due("x")).count()
            };
            assert_eq!((due("x=3", 2), due("x=3", 9), due("x", 4), due("y=1", 3), due("x=%3", 9)), (0, 1, 4, 0, 3));
            assert_eq!((due("x=..2", 1), due("x=..2", 9), due("y=..2", 9)), (1, 2, 0));
            assert_eq!(Armed::parse("x=3:70").delay, Some(Duration::from_micros(70)));
        }
    }
}

pub use switched::{is_broken, panic_in, pass};
