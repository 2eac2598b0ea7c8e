"""The DINOv2 vision transformer that alternates within-view and cross-view attention."""
