//! The check that nothing acknowledged is lost and nothing takes effect twice.
