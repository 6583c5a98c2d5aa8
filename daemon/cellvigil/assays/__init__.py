"""What a person says of an assay: the plate map and the events, read from spreadsheets and from `event add`."""
