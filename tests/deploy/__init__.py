"""What the service is deployed with: the image, and the manifests that run it."""
