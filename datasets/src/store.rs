//! Access to objects.
