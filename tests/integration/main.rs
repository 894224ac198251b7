//! Through the public interfaces, on a real Postgres, against the store simulator.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub
)]

mod balancer;
mod books;
mod history;
mod process;
mod scene;
mod support;

mod access_end;
mod accounts;
mod api_keys;
mod app_keys;
mod attacks;
mod calls;
mod canaries;
mod catalog_versions;
mod consumables;
mod contract;
mod convergence;
mod credit_joins;
mod dev_stack;
mod doctor;
mod doors;
mod encryption;
mod environments;
mod erased;
mod fail_closed;
mod failing;
mod feed;
mod first_files;
mod forgeries;
mod google_lifecycles;
mod guesses;
mod hints_by_nats;
mod invariants;
mod joins;
mod json_api;
mod leases;
mod lifecycle;
mod newcomer;
mod offers;
mod ownership;
mod ownership_policies;
mod phones;
mod plans;
mod privacy;
mod processes;
mod product_kinds;
mod refund_defence;
mod restore;
mod retention;
mod rpc_policy;
mod scenarios;
mod self_healing;
mod spine;
mod stories;
mod superwall;
mod tickets;
mod warm_reads;
mod watch;
mod xcode;
