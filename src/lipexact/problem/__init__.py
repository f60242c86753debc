"""The Lipschitz problem: maximise a derivative over a domain and two unit balls."""
