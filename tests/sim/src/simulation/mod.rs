mod connection;
mod machine;
mod plan;
mod random;
mod reference;
mod runs;
mod workload;
