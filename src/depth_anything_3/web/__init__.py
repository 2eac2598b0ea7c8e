"""What every web page of this package shares: the pages themselves, their headers, and a server on this machine."""
