"""check → simulate → score as resumable runs, and the demo."""
