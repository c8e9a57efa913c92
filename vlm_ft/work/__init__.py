"""Work on adapters: jobs, versions and reviews, and who may do what; the service and the app use it."""
