//! Resources: what services need and do not run themselves. Connections and places as data.

pub mod sqlite;
