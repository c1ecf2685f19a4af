"""Services, simulator and deployment files."""
