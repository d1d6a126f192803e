//! Real PostgreSQL, repmgr and sshd clusters on loopback, their faults and their clients.
