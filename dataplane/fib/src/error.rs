//! Why a change to the tables was refused. A refused change has changed nothing.

#[derive(Debug, thiserror::Error)]
pub enum FibError {
    #[error("prefix length {len} is above {len_max}")]
    PrefixTooLong { len: u8, len_max: u8 },
    #[error("NextHop::NONE is no next hop; remove the prefix instead")]
    NoNextHop,
    #[error("table holds its limit of {routes_max} prefixes; raise routes_max or aggregate")]
    RoutesFull { routes_max: usize },
    #[error("all {limit} {what} are in use; raise the limit")]
    Full { what: &'static str, limit: usize },
    #[error("{waiting} withdrawn {what} still wait for a reader to pass a quiescent point; retry after a turn")]
    Busy { what: &'static str, waiting: usize },
    #[error("all {readers_max} reader seats are taken; drop a view first")]
    ReadersFull { readers_max: usize },
    #[error("no {what} with index {index}")]
    Unknown { what: &'static str, index: u32 },
    #[error("limit {what} = {value} is above {value_max}")]
    Limit { what: &'static str, value: usize, value_max: usize },
    #[error("a next hop group needs members with weights above zero, {members_max} at most")]
    GroupMembers { members_max: usize },
    #[error("cannot map {len_bytes} bytes for a table")]
    Memory {
        len_bytes: usize,
        #[source]
        source: std::io::Error,
    },
}
