"""What people would write or use instead, side by side with ours."""
