//! Sans-IO IP, UDP and TCP.
