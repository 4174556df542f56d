"""What the tests share: ports, a raw client, servers real and scripted."""
