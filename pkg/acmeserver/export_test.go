package acmeserver

// PrintableURL is exported for its fuzz target.
var PrintableURL = printableURL
