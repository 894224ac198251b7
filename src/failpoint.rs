//! Named places at which tests kill or stop the process. Debug builds only: in a release build a
//! call is nothing at all.

/// Ends the process without any clean-up if `ENTITLED_CRASH_AT` names this place; stops it once,
/// until somebody sends SIGCONT, if `ENTITLED_STOP_AT` does.
#[inline]
pub(crate) fn at(place: &str) {
    #[cfg(debug_assertions)]
    {
        if is_named("ENTITLED_CRASH_AT", place) {
            std::process::abort();
        }
        if is_named("ENTITLED_STOP_AT", place) {
            stop_once();
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}

#[cfg(debug_assertions)]
fn is_named(variable: &str, place: &str) -> bool {
    std::env::var_os(variable).is_some_and(|named| named == place)
}

#[cfg(debug_assertions)]
fn stop_once() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static STOPPED: AtomicBool = AtomicBool::new(false);
    if !STOPPED.swap(true, Ordering::SeqCst) {
        let pid = std::process::id().to_string();
        // The child ends once this process stands: a signal to a process takes effect only when one
        // of its threads has run into it, and until then this one would go on. Without the commands
        // there is nothing to stop with: the test that waits for it will say so.
        let stand = r#"kill -STOP "$1"
            for _ in $(seq 1000); do
                case $(ps -o state= -p "$1") in *T*) exit ;; esac
                sleep 0.01
            done"#;
        let _ = std::process::Command::new("sh")
            .args(["-c", stand, "sh", &pid])
            .status();
    }
}
