"""What a pretrained encoder is worth: standard planes, frozen readings, folds by patient, and the evidence."""
