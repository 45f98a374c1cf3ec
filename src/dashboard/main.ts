document.title = "Forechain";
